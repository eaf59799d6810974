// Numbers as text: bytes, times, percentiles, and a table as Markdown. No DOM.

const GROUPED = new Intl.NumberFormat('en-US');
const UNITS = [[1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB']];

/** "12,345", exact while it is short. */
export function count(value) {
  if (value < 1e6) {
    return GROUPED.format(value);
  }
  const [size, unit] = UNITS.find(([least]) => value >= least);
  return `${(value / size).toPrecision(4)} ${unit}`;
}

/** "0.42 ms", "42 ms", "12.3 s". */
export function milliseconds(value) {
  if (value === undefined) {
    return '–';
  }
  if (value >= 10_000) {
    return `${(value / 1000).toFixed(1)} s`;
  }
  return value >= 10 ? `${GROUPED.format(Math.round(value))} ms` : `${value.toFixed(value >= 1 ? 1 : 2)} ms`;
}

/** The value that this share of the values does not exceed (nearest rank). Undefined without values. */
export function percentile(values, share) {
  const sorted = Float64Array.from(values).sort();
  return sorted.length === 0 ? undefined : sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/** `columns` are { title, isNumber }, `rows` arrays of texts. */
export function markdown(title, columns, rows) {
  const line = (cells) => `| ${cells.map((cell) => String(cell).replaceAll('|', '\\|')).join(' | ')} |`;
  return [
    `**${title}**`,
    '',
    line(columns.map((column) => column.title)),
    line(columns.map((column) => column.isNumber ? '-:' : '-')),
    ...rows.map(line),
  ].join('\n');
}
