// The wire view: not written yet.

export function mountWireView() {
  return { show() {}, watch() {} };
}
