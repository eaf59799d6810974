// The page at /docs and /redoc: shows /openapi.json, and at /docs has a form to try each operation. Everything from the
// description and from the server is text, never markup.

import { Finder } from './finder.js';
import { Attempt } from './try.js';

const reading = location.pathname.endsWith('/redoc');
let api;

/** An element with attributes and children. A child is a node or a text; an absent one is left out. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? '' : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== ''));
  return element;
}

/** Follows a reference into the description. */
const resolve = (value) => value?.$ref
  ? resolve(value.$ref.slice(2).split('/').reduce((at, key) => at[key], api))
  : value;

const nameOf = (reference) => reference?.$ref?.split('/').at(-1);
const json = (value) => JSON.stringify(value, null, 2);
const schemaLink = (name) => el('a', { href: `#schema-${name}` }, name);

/** A text in which `this` is code, and the name of a schema leads to it. */
function prose(text = '') {
  return text.split('`').map((word, at) => {
    if (at % 2 === 0) {
      return word;
    }
    return word in api.components.schemas ? schemaLink(word) : el('code', {}, word);
  });
}

/** Puts commas between nodes. */
const listed = (nodes) => nodes.flatMap((node, at) => at === 0 ? [node] : [', ', node]);

// Schemas.

/** The values that a schema allows, in words. */
function typeOf(schema) {
  if (schema.$ref) {
    return [schemaLink(nameOf(schema))];
  }
  const alternatives = schema.oneOf ?? schema.anyOf;
  if (alternatives) {
    return alternatives.flatMap((one, at) => at === 0 ? typeOf(one) : [' or ', ...typeOf(one)]);
  }
  if (schema.const !== undefined) {
    return ['always ', el('code', {}, JSON.stringify(schema.const))];
  }
  if (schema.enum) {
    return ['one of ', ...listed(schema.enum.map((value) => el('code', {}, JSON.stringify(value))))];
  }
  if (schema.type === 'array') {
    return ['array of ', ...typeOf(schema.items), schema.maxItems === undefined ? '' : `, at most ${schema.maxItems}`];
  }
  return [`${[schema.type].flat().join(' or ')}${rangeOf(schema)}`];
}

function rangeOf({ minimum, maximum, minLength, maxLength, format, type }) {
  const range = (low, high, what) => high === undefined ? `, at least ${low}${what}` : `, ${low} to ${high}${what}`;
  if (minimum !== undefined) {
    return range(minimum, maximum, '');
  }
  if (minLength !== undefined) {
    return range(minLength, maxLength, ' characters');
  }
  return type === 'string' && format ? `, ${format}` : '';
}

/** Names, types and meanings: of the members of an object, or of parameters. */
function rows(entries) {
  return el('dl', { class: 'rows' }, entries.flatMap(({ name, where, required, schema, description, example }) => {
    const actual = resolve(schema);
    const isNews = example !== undefined && example !== actual.default && actual.const === undefined;
    const fallback = actual.default === undefined ? [] : [', default ', el('code', {}, String(actual.default))];
    return [
      el('dt', {}, el('code', {}, name), where ? el('span', { class: 'where' }, where) : '',
        required ? el('span', { class: 'required' }, 'required') : ''),
      el('dd', {}, el('span', { class: 'type' }, typeOf(schema), fallback,
        isNews ? [', for example ', el('code', {}, String(example))] : ''),
        el('span', {}, prose(description ?? (schema.$ref ? '' : actual.description)))),
    ];
  }));
}

function members(schema) {
  const { properties, required = [] } = resolve(schema);
  return properties && rows(Object.entries(properties).map(([name, member]) => (
    { name, required: required.includes(name), schema: member })));
}

/** A schema where it is used: its name, and its members if it is an object. */
function shape(schema) {
  return [el('p', { class: 'type' }, typeOf(schema)), members(schema) ?? ''];
}

// Examples.

/** The examples of a content or a schema: pairs of a name, which can be empty, and a value. */
function examplesOf({ example, examples }) {
  if (Array.isArray(examples)) {
    return examples.map((value) => ['', value]);
  }
  const named = Object.entries(examples ?? {}).map(([name, { value }]) => [name, value]);
  return example === undefined ? named : [['', example]];
}

function exampleBlocks(holder) {
  const examples = examplesOf(holder);
  return examples.length === 0 ? '' : el('div', { class: 'examples' }, examples.map(([name, value]) => el('figure', {},
    el('figcaption', {}, name ? `Example: ${name}` : 'Example'),
    el('pre', {}, el('code', {}, typeof value === 'string' ? value : json(value))))));
}

// Operations.

const isSuccess = (status) => Number(status) < 400;

/** An operation of the description, in the form that this page works with. */
function operationOf(path, method, description) {
  const bodies = resolve(description.requestBody)?.content;
  const types = Object.keys(resolve(description.responses['200'])?.content ?? {});
  return {
    ...description,
    path,
    method: method.toUpperCase(),
    parameters: (description.parameters ?? []).map(resolve),
    content: bodies && Object.values(bodies)[0],
    isWebSocket: '101' in description.responses,
    isStream: types.includes('text/event-stream') || types.includes('application/x-ndjson'),
    kind: '101' in description.responses ? 'WebSocket'
      : { 'text/event-stream': 'event stream', 'application/x-ndjson': 'lines of JSON' }[types[0]],
  };
}

function badge(method) {
  return el('span', { class: 'method', 'data-method': method }, method);
}

function answer([status, reference]) {
  const { description, headers = {}, content = {} } = resolve(reference);
  return el('section', { class: 'answer' },
    el('h5', {}, el('span', { class: 'status' }, status), ' ', ...Object.keys(content)),
    el('p', {}, prose(description)),
    Object.keys(headers).length > 0
      ? el('details', { open: reading }, el('summary', {}, 'Fields'), rows(Object.entries(headers).map(([name, header]) => (
        { name, where: 'field', ...resolve(header) })))) : '',
    Object.values(content).flatMap((one) => [...shape(one.schema), exampleBlocks(one)]));
}

/** The errors of an operation: they are the same everywhere, and described once. */
function errors(responses) {
  const links = Object.entries(responses).filter(([status]) => !isSuccess(status))
    .map(([status, reference]) => el('a', { href: `#error-${nameOf(reference)}` }, status));
  return el('p', { class: 'errors' }, 'Errors: ', listed(links));
}

function messages({ fromServer, fromClient } = {}) {
  const list = (title, references) => references
    ? el('p', {}, `${title}: `, listed(references.map((reference) => schemaLink(nameOf(reference))))) : '';
  return [list('Messages from the server', fromServer), list('Messages from the client', fromClient)];
}

function part(title, ...children) {
  return [el('h4', {}, title), ...children];
}

function operation(one) {
  const { path, method, summary, description, parameters, content, responses, operationId, kind } = one;
  const messageTypes = one['x-messages'];
  return el('article', { id: operationId, 'aria-labelledby': `${operationId}-title`, 'data-operation': operationId },
    el('h3', { id: `${operationId}-title` }, badge(method), ' ',
      el('a', { href: `#${operationId}`, class: 'path' }, path.split('/').flatMap((segment, at) => (
        at === 0 ? [segment] : [el('wbr'), `/${segment}`]))),
      kind ? el('span', { class: 'kind' }, kind) : ''),
    reading ? '' : el('button', { type: 'button', class: 'fold' }),
    el('p', { class: 'summary' }, prose(summary)),
    description ? el('p', {}, prose(description)) : '',
    parameters.length > 0 ? part('Parameters', rows(parameters.map((parameter) => (
      { ...parameter, where: parameter.in === 'header' ? 'field' : parameter.in })))) : '',
    content ? part('Content', el('p', {}, prose(resolve(one.requestBody).description)),
      ...shape(content.schema), exampleBlocks(content)) : '',
    messageTypes ? part('Messages', ...messages(messageTypes)) : '',
    part('Answers', Object.entries(responses).filter(([status]) => isSuccess(status)).map(answer), errors(responses)),
    part(reading ? 'With curl' : 'Try it', new Attempt(one, {
      el, examples: content ? examplesOf(content) : [], reading,
      said: messageTypes?.fromClient?.flatMap((reference) => resolve(reference).examples ?? [])[0],
    }).element));
}

// The page.

function about({ info: { version, description } }) {
  return [...description.split('\n\n').map((text) => el('p', {}, prose(text))),
    el('p', { class: 'aside' }, `Version ${version}`)];
}

function groups() {
  const operations = Object.entries(api.paths).flatMap(([path, item]) => (
    Object.entries(item).map(([method, description]) => operationOf(path, method, description))));
  return api.tags.map(({ name, description }) => (
    { name, description, operations: operations.filter(({ tags }) => tags[0] === name) }));
}

/** A line of the contents: a method in the first column, and a path. */
function line({ operationId, method, path, isWebSocket }) {
  return el('li', {}, el('a', { href: `#${operationId}` }, badge(isWebSocket ? 'WS' : method), ' ',
    el('span', {}, path)));
}

function contents(all) {
  const more = [['errors', 'Errors'], ['schemas', 'Schemas']];
  return [
    ...all.map(({ name, operations }) => el('section', {},
      el('p', {}, el('a', { href: `#group-${name}` }, name)), el('ul', {}, operations.map(line)))),
    el('section', {}, more.map(([id, title]) => el('p', {}, el('a', { href: `#${id}` }, title)))),
  ];
}

function group({ name, description, operations }) {
  return el('section', { class: 'group', 'aria-labelledby': `group-${name}` },
    el('h2', { id: `group-${name}` }, name), el('p', {}, prose(description)), operations.map(operation));
}

/** Every error, once. */
function allErrors() {
  const statuses = new Map(Object.values(api.paths).flatMap(Object.values)
    .flatMap(({ responses }) => Object.entries(responses)).map(([status, reference]) => [nameOf(reference), status]));
  const known = Object.entries(api.components.responses).filter(([name]) => !isSuccess(statuses.get(name)))
    .sort(([a], [b]) => statuses.get(a) - statuses.get(b));
  return el('section', { class: 'group', 'aria-labelledby': 'errors' },
    el('h2', { id: 'errors' }, 'Errors'),
    el('p', {}, 'The content of every error is an ', schemaLink('Error'), '.'),
    known.map(([name, { description, headers, content }]) => el('article', { id: `error-${name}` },
      el('h3', {}, el('span', { class: 'status' }, statuses.get(name)), ' ', name.replace(/(?<=[a-z])(?=[A-Z])/g, ' ')),
      el('p', {}, prose(description)),
      rows(Object.entries(headers).filter(([field]) => field !== 'Cache-Control').map(([field, header]) => (
        { name: field, where: 'field', ...resolve(header) }))),
      exampleBlocks(content['application/json']))));
}

function allSchemas() {
  return el('section', { class: 'group', 'aria-labelledby': 'schemas' },
    el('h2', { id: 'schemas' }, 'Schemas'),
    Object.entries(api.components.schemas).map(([name, schema]) => el('article', { id: `schema-${name}` },
      el('h3', {}, el('a', { href: `#schema-${name}`, class: 'path' }, name)),
      schema.description ? el('p', {}, prose(schema.description)) : '',
      ...shape(schema), exampleBlocks(schema))));
}

async function show() {
  const main = document.querySelector('#content');
  const other = document.querySelector('#other');
  document.body.dataset.layout = reading ? 'reading' : 'trying';
  if (reading) {
    other.href = 'docs';
    other.textContent = 'With forms, to try it';
  }
  try {
    const response = await fetch('openapi.json');
    if (!response.ok) {
      throw new Error(`the server answered ${response.status}`);
    }
    api = await response.json();
  } catch (error) {
    main.append(el('p', { role: 'alert' }, `The description could not be loaded: ${error.message}. Reload to try again.`));
    return;
  } finally {
    main.removeAttribute('aria-busy');
  }
  const all = groups();
  const narrow = matchMedia('(max-width: 60rem)');
  const list = document.querySelector('#contents');
  list.append(...contents(all));
  list.open = !narrow.matches;
  narrow.addEventListener('change', () => { list.open = !narrow.matches; });
  list.addEventListener('click', ({ target }) => { list.open &&= !(narrow.matches && target.closest('a')); });
  document.querySelector('#about').append(...about(api));
  main.append(...all.map(group), allErrors(), allSchemas());
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  if (!reading) {
    list.before(new Finder().element);
  }
}

show();
