// Goes through the page of a director with a thousand services and ten thousand destinations; page.rs starts it.
//
//   UVS_PLAYWRIGHT=FOLDER CHROMIUM=PROGRAM node large.mjs URL SERVICE DESTINATION PICTURES
//
// What it says took how long, in the browser and on the way there, is for people: a machine may be busy. What must hold
// is that each view comes, that a view holds a page of rows and no more, and that no answer is large.

import { createRequire } from "node:module";
import { strict as assert } from "node:assert";
import { mkdirSync } from "node:fs";
import path from "node:path";

const { chromium } = createRequire(path.join(process.env.UVS_PLAYWRIGHT, "/"))("playwright-core");
const [url, service, destination, pictures] = process.argv.slice(2);
mkdirSync(pictures, { recursive: true });
/** Elements on a page, and bytes of an answer. */
const ELEMENTS_MAX = 3000;
const ANSWER_MAX = 256 << 10;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
context.setDefaultTimeout(60_000);
const page = await context.newPage();
const answers = [];
page.on("response", async (response) => {
  const body = await response.body().catch(() => null);
  if (body) answers.push([new URL(response.url()).pathname, body.length]);
});
await page.addInitScript(() => {
  window.blocked = 0;
  new PerformanceObserver((list) => { for (const it of list.getEntries()) window.blocked += it.duration; }).observe({ type: "longtask", buffered: true });
});
const rows = () => page.locator("main tbody tr");

async function step(name, work) {
  const began = Date.now();
  const blocked = await page.evaluate(() => window.blocked ?? 0);
  await work();
  const took = Date.now() - began;
  const { elements, busy } = await page.evaluate(() => ({ elements: document.querySelectorAll("*").length, busy: window.blocked }));
  console.log(`${name}: ${took} ms, ${Math.round(Math.max(0, busy - blocked))} ms of it in long tasks, ${elements} elements`);
  assert(elements <= ELEMENTS_MAX, `${name}: ${elements} elements`);
  await page.screenshot({ path: path.join(pictures, `large-${name.replaceAll(" ", "-")}.png`) });
}

try {
  await step("overview", async () => {
    await page.goto(url);
    await page.locator("svg.map").waitFor();
  });
  await step("services", async () => {
    await page.keyboard.press("2");
    await page.getByText("1,000", { exact: false }).first().waitFor();
    await rows().first().waitFor();
  });
  await step("destinations", async () => {
    await page.keyboard.press("3");
    await page.getByText("10,000", { exact: false }).first().waitFor();
    await rows().first().waitFor();
  });
  await step("one of ten thousand", async () => {
    await page.keyboard.press("/");
    await page.keyboard.type(`${destination} ${service}`);
    await page.waitForFunction((name) => {
      const all = [...document.querySelectorAll("main tbody tr")];
      return all.length === 1 && all[0].textContent.includes(name);
    }, destination);
  });
  await step("next page", async () => {
    await page.keyboard.press("Escape");
    await page.evaluate(() => { location.hash = "#/destinations"; location.reload(); });
    await rows().nth(5).waitFor();
    const first = await rows().first().textContent();
    await page.keyboard.press("n");
    await page.waitForFunction((first) => {
      const row = document.querySelector("main tbody tr");
      return row && row.textContent !== first;
    }, first);
  });
  await step("one service", async () => {
    await page.evaluate((hash) => { location.hash = hash; }, `#/service/${encodeURIComponent(service)}`);
    await page.locator("svg.map").waitFor();
    await rows().first().waitFor();
  });
  const [longest, bytes] = answers.reduce((most, it) => (it[1] > most[1] ? it : most), ["", 0]);
  console.log(`the longest of ${answers.length} answers: ${longest}, ${bytes} bytes`);
  assert(bytes <= ANSWER_MAX, `${longest} has ${bytes} bytes`);
  console.log("passed");
} catch (error) {
  console.log(`failed: ${error.stack}`);
  await page.screenshot({ path: path.join(pictures, "failed.png") }).catch(() => {});
  process.exitCode = 1;
} finally {
  await browser.close();
}
