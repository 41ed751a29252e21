// A headless Chromium with a fresh profile, driven by lines of JSON.
//
//   node browser.mjs CHROMIUM
//   → {"do": "open", "url": …}                       goes to an address and waits until the page is there
//   → {"do": "fill", "at": SELECTOR, "text": …}      types into a field
//   → {"do": "click", "at": SELECTOR}                clicks, when the element can be clicked
//   → {"do": "read", "at": SELECTOR}                 waits for the element; its text
//   → {"do": "address"}                              where the browser is
//   → {"do": "cookies"}                              the cookies of the page, as scripts see them
//   ← {"value": …} or {"error": …}, a line for each
//
// It reaches 127.0.0.1 and localhost alone, and ends when its standard input does.

import { createInterface } from 'node:readline';
import { load } from './modules.mjs';

const PATIENCE = 30_000;
const { default: { chromium } } = await load('playwright-core');

const browser = await chromium.launch({
  executablePath: process.argv[2],
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
  ],
});
const page = await browser.newPage();
page.setDefaultTimeout(PATIENCE);

const commands = {
  open: ({ url }) => page.goto(url, { waitUntil: 'domcontentloaded' }).then((answer) => answer.status()),
  fill: ({ at, text }) => page.fill(at, text),
  click: ({ at }) => page.click(at),
  read: ({ at }) => page.innerText(at),
  address: () => page.url(),
  cookies: () => page.evaluate('document.cookie'),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command.do](command)) ?? null };
  } catch (error) {
    answer = { error: `${error.message.split('\n')[0]}, on ${page.url()}` };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
