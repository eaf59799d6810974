// The browser of a test: Chromium, or Firefox if BROWSER says `firefox`. playwright-core drives both.

import { chromium, firefox } from 'playwright-core';
import { fileURLToPath } from 'node:url';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const RELAY = fileURLToPath(new URL('firefox-for-playwright.mjs', import.meta.url));

export const isFirefox = process.env.BROWSER === 'firefox';

/** Starts the browser of the test. `flags` are for Chromium. */
export const launch = (flags = []) => (isFirefox ? launchFirefox()
  : chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: [...FLAGS, ...flags] }));

/** Starts Firefox with these preferences: { name: value }. */
export const launchFirefox = (preferences = {}) => (
  firefox.launch({ channel: 'moz-firefox', executablePath: RELAY, firefoxUserPrefs: preferences }));
