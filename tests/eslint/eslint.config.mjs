// The rules for the project's JavaScript: those that ESLint recommends, and a few that keep the files alike. The length
// of lines is the only rule on layout.

import js from '@eslint/js';
import globals from 'globals';

const LONGEST = { code: 120, ignoreStrings: true, ignoreTemplateLiterals: true };
const RELATIVE = {
  selector: ':matches(ImportDeclaration, ExportNamedDeclaration, ExportAllDeclaration)[source.value=/^[^.]/]',
  message: 'Import by a relative path: the same files are served at / and below /-/tap/static/.',
};

export default [
  { ignores: ['**/node_modules/', '**/target/'] },
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      'eqeqeq': 'error',
      'max-len': ['error', LONGEST],
      'no-var': 'error',
      'object-shorthand': 'error',
      'prefer-const': 'error',
    },
  },
  {
    // Modules of the pages.
    files: ['static/**/*.js'],
    languageOptions: { globals: globals.browser },
    rules: {
      'max-lines': ['error', 350],
      'no-restricted-syntax': ['error', RELATIVE],
      'no-shadow': 'error',
    },
  },
  {
    // Modules of the lessons' pages.
    files: ['lessons/**/*.js'],
    languageOptions: { globals: globals.browser },
  },
  {
    // One file, which people copy.
    files: ['static/overwire.js'],
    rules: { 'max-lines': 'off' },
  },
  {
    // Programs for Node. What they pass to `page.evaluate` runs in a browser.
    files: ['tests/**/*.mjs'],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
  },
];
