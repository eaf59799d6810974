// The comparison: not written yet.

export function mountCompare() {
  return { watch() {} };
}
