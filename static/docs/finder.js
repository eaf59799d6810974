// The search above the contents, and the buttons that fold the endpoints to their first lines.

import { make } from '../dom.js';
import { keep, recall } from '../page/kept.js';

const FOLDED = 'docs-folded'; // the name of a kept choice

export class Finder {
  #articles = [...document.querySelectorAll('[data-operation]')];
  #search = make('input', { type: 'search', id: 'search', 'aria-label': 'Search', autocomplete: 'off',
    placeholder: 'Search (/)' });
  #said = make('p', { class: 'found', role: 'status' });
  #all = make('button', { type: 'button', id: 'fold-all' });
  element = make('div', { class: 'finder' }, this.#search, this.#all, this.#said);
  #words = new Map(); // article -> all that it says, in lower case

  constructor() {
    this.#articles.forEach((article) => {
      this.#words.set(article, article.textContent.toLowerCase());
      article.querySelector('.fold').addEventListener('click', () => this.#fold(article, !isFolded(article)));
    });
    this.#search.addEventListener('input', () => this.#find());
    this.#search.addEventListener('keydown', ({ key }) => key === 'Enter' && this.#toFirst());
    document.addEventListener('keydown', (event) => {
      if (event.key === '/' && !event.target.closest('input, textarea, select')) {
        event.preventDefault();
        this.#search.focus();
      }
    });
    this.#all.addEventListener('click', () => this.#foldAll(this.#articles.some((one) => !isFolded(one))));
    this.#foldAll(recall(FOLDED) === 'true');
    addEventListener('hashchange', () => this.#unfoldTarget());
    this.#unfoldTarget();
    this.#showPlace();
  }

  /** Shows the endpoints that have all words, anywhere. */
  #find() {
    const wanted = this.#search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const article of this.#articles) {
      article.hidden = !wanted.every((word) => this.#words.get(article).includes(word));
      this.#linkTo(article).parentElement.hidden = article.hidden;
    }
    for (const group of document.querySelectorAll('.group:has([data-operation]), #contents section:has(ul)')) {
      group.hidden = group.querySelector('[data-operation]:not([hidden]), li:not([hidden])') === null;
    }
    const found = this.#articles.filter(({ hidden }) => !hidden).length;
    this.#said.textContent = wanted.length === 0 ? '' : `${found} of ${this.#articles.length} endpoints`;
  }

  #toFirst() {
    const first = this.#articles.find(({ hidden }) => !hidden);
    if (first) {
      location.hash = first.id;
      this.#fold(first, false);
    }
  }

  #linkTo({ id }) {
    return document.querySelector(`#contents a[href="#${id}"]`);
  }

  #fold(article, folds) {
    article.classList.toggle('folded', folds);
    const button = article.querySelector('.fold');
    button.setAttribute('aria-expanded', String(!folds));
    button.textContent = folds ? 'Unfold' : 'Fold';
    button.setAttribute('aria-label', `${button.textContent} ${article.querySelector('h3').textContent}`);
    this.#all.textContent = this.#articles.every(isFolded) ? 'Unfold all' : 'Fold all';
  }

  #foldAll(folds) {
    this.#articles.forEach((article) => this.#fold(article, folds));
    keep(FOLDED, folds);
  }

  /** A link leads to an endpoint that can be read. */
  #unfoldTarget() {
    const target = this.#articles.find(({ id }) => id === location.hash.slice(1));
    if (target) {
      this.#fold(target, false);
      target.scrollIntoView();
    }
  }

  /** Marks the endpoint that is read in the contents. */
  #showPlace() {
    const seen = new Set();
    const observer = new IntersectionObserver((entries) => {
      entries.forEach(({ target, isIntersecting }) => seen[isIntersecting ? 'add' : 'delete'](target));
      const here = this.#articles.find((article) => seen.has(article));
      this.#articles.forEach((article) => (
        article === here ? this.#linkTo(article).setAttribute('aria-current', 'true')
          : this.#linkTo(article).removeAttribute('aria-current')));
    }, { rootMargin: '-5% 0px -75% 0px' });
    this.#articles.forEach((article) => observer.observe(article));
  }
}

const isFolded = (article) => article.classList.contains('folded');
