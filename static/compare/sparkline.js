// Bytes per second over the last minute, one bar a second. The scale is logarithmic, so that one picture shows both a
// heartbeat and a burst. A second without a byte has no bar. Each line across is ten times the one below it.

const SVG = 'http://www.w3.org/2000/svg';
const BAR = 2.5; // pixels, with a gap of half a pixel
const HEIGHT = 40;

export class Sparkline {
  #bars = shape('path', { class: 'sparkline-bars' });
  #grid = shape('path', { class: 'sparkline-grid' });
  #decades = 0;

  constructor(seconds, title) {
    this.title = title;
    const size = { viewBox: `0 0 ${seconds * BAR} ${HEIGHT}`, width: seconds * BAR, height: HEIGHT };
    this.element = shape('svg', { class: 'sparkline', role: 'img', 'aria-label': title, ...size });
    this.element.append(this.#grid, this.#bars);
  }

  /** `values` are bytes, the oldest second first. The top is 10 to the power of `decades`, the same for all lanes. */
  draw(values, decades) {
    const bars = values.map((value, at) => {
      const height = value === 0 ? 0 : Math.max(1, Math.log10(value) / decades * HEIGHT);
      return height === 0 ? '' : `M${at * BAR} ${HEIGHT}v${-height.toFixed(1)}h${BAR - 0.5}V${HEIGHT}z`;
    });
    this.#bars.setAttribute('d', bars.join(''));
    this.element.setAttribute('aria-label', `${this.title}: at most ${Math.max(...values)}, now ${values.at(-1)}`);
    if (decades !== this.#decades) {
      this.#decades = decades;
      const lines = Array.from({ length: decades }, (_, at) => HEIGHT - at * HEIGHT / decades - 0.5);
      this.#grid.setAttribute('d', lines.map((y) => `M0 ${y.toFixed(1)}h${values.length * BAR}`).join(''));
    }
  }
}

/** The number of powers of ten that shows the largest value. */
export function decadesFor(largest) {
  return Math.max(3, Math.ceil(Math.log10(Math.max(1, largest))));
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  return element;
}
