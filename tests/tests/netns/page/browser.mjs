// Drives a browser through the page of a director, as a person would; page.rs starts it and looks at how it ended.
//
//   UVS_PLAYWRIGHT=FOLDER CHROMIUM=PROGRAM node browser.mjs URL TOKEN SERVICE DESTINATION PICTURES MODULE
//
// FOLDER has node_modules/playwright-core; MODULE is a scheduler that the service does not have yet. Pictures of what it saw go into PICTURES; when something is not as it
// should be, the last one is of that.

import { createRequire } from "node:module";
import { strict as assert } from "node:assert";
import { mkdirSync } from "node:fs";
import path from "node:path";

const { chromium } = createRequire(path.join(process.env.UVS_PLAYWRIGHT, "/"))("playwright-core");
const [url, token, service, destination, pictures, module] = process.argv.slice(2);
mkdirSync(pictures, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // A network namespace is no place for Chromium's own sandbox, nor is /dev/shm of a container.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});
const errors = [];
const elsewhere = [];
let page;

async function open(options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(60_000);
  page = await context.newPage();
  page.on("console", (message) => {
    // What the server refuses on purpose, the browser calls an error.
    if (message.type() === "error" && !/status of (401|409)/.test(message.text())) errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) elsewhere.push(request.url());
  });
  await page.goto(url);
  await page.locator(".tile strong").first().waitFor();
  return context;
}

const picture = (name, whole = false) => page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: whole });
const main = () => page.locator("main");
const heading = (text) => main().getByRole("heading", { name: text, level: 1 }).waitFor();
const rows = () => main().locator("table tbody tr");
const steps = [];

async function step(name, work) {
  const began = Date.now();
  await work();
  steps.push(`${name} (${Date.now() - began} ms)`);
}

try {
  let context = await open({ colorScheme: "light" });

  await step("the overview shows traffic and draws its way", async () => {
    await page.locator("#health", { hasText: /up|degraded|down/ }).waitFor();
    await page.locator("svg.map .flow.request.moves").first().waitFor({ state: "attached" });
    await page.locator("svg.map .flow.answer.moves").first().waitFor({ state: "attached" });
    await picture("overview-light", true);
  });

  await step("keys go through the views", async () => {
    await page.keyboard.press("2");
    await heading("Services");
    await rows().first().waitFor();
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "TR", "a row has the focus");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, "none", "and it can be seen");
    await page.keyboard.press("Enter");
    await heading(service);
    await page.locator("svg.map").waitFor();
    await rows().first().waitFor();
    await picture("service", true);
    await page.keyboard.press("Backspace");
    await heading("Services");
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
    await picture("keys");
    await page.keyboard.press("Escape");
    assert.equal(await page.getByRole("dialog").count(), 0);
    for (const [key, title] of [["4", "Checks"], ["5", "Schedulers"], ["7", "Events"], ["1", "Overview"]]) {
      await page.keyboard.press(key);
      await page.waitForFunction((title) => document.title.startsWith(title), title);
    }
  });

  await step("a filter finds a destination among all", async () => {
    await page.keyboard.press("3");
    await rows().first().waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type(`${destination} tcp nat`);
    await page.waitForFunction((name) => {
      const all = [...document.querySelectorAll("main tbody tr")];
      return all.length === 1 && all[0].textContent.includes(name);
    }, destination);
    assert((await rows().count()) <= 50);
    await page.keyboard.press("Escape");
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await heading(destination);
    await main().getByText("The marked one has the last word.").waitFor();
  });

  await step("without the token nothing can be pressed", async () => {
    assert(await main().getByRole("button", { name: "Drain …" }).isDisabled());
    await main().getByText("Locked: unlock changes (u) first.").waitFor();
  });

  await step("a wrong token is told, the right one unlocks", async () => {
    await page.keyboard.press("u");
    const dialog = page.getByRole("dialog", { name: "Unlock changes" });
    await dialog.locator("input[name=token]").fill("not the token at all");
    await page.keyboard.press("Enter");
    await dialog.getByText("that is not the token").waitFor();
    await dialog.locator("input[name=token]").fill(token);
    await page.keyboard.press("Enter");
    await dialog.waitFor({ state: "detached" });
    await main().getByRole("button", { name: "Drain …" }).and(page.locator(":enabled")).waitFor();
  });

  await step("a destination drains and serves again", async () => {
    await main().getByRole("button", { name: "Drain …" }).click();
    const dialog = page.getByRole("dialog", { name: "Drain" });
    await dialog.getByRole("spinbutton", { name: "Deadline" }).fill("600");
    await picture("drain");
    await dialog.getByRole("button", { name: "Drain", exact: true }).click();
    await main().locator(".headline").getByText("draining").waitFor();
    await picture("destination", true);
    await main().getByRole("button", { name: "Serve again" }).click();
    await main().locator(".headline .state.good").waitFor();
  });

  await step("a weight is set", async () => {
    await main().getByRole("button", { name: "Weight …" }).click();
    const dialog = page.getByRole("dialog", { name: "Set weight" });
    await dialog.getByRole("spinbutton", { name: "Weight" }).fill("7");
    await page.keyboard.press("Enter");
    await main().getByRole("heading", { name: "Weight 7" }).waitFor();
  });

  await step("a module is loaded, and rolled back", async () => {
    await page.evaluate((hash) => { location.hash = hash; }, `#/service/${encodeURIComponent(service)}`);
    await heading(service);
    const serves = () => main().locator(".schedulerbox dl.pairs").first().locator("dt", { hasText: /^Module$/ }).locator("xpath=following-sibling::dd[1]");
    const before = (await serves().textContent()).trim();
    const name = path.basename(module);
    assert.notEqual(before, name);
    const button = (text) => main().getByRole("button", { name: text });
    const load = async (file) => {
      await button("Load a module …").click();
      const dialog = page.getByRole("dialog", { name: "Load a module" });
      await dialog.locator("input[type=file]").setInputFiles(file);
      await picture("load");
      await dialog.getByRole("button", { name: "Load", exact: true }).click();
      return dialog;
    };
    const refused = await load({ name: "mine.wasm", mimeType: "application/wasm", buffer: Buffer.from("no component") });
    await refused.locator(".problem", { hasText: "is not WebAssembly" }).waitFor();
    await picture("load-refused");
    await refused.getByRole("button", { name: "Cancel" }).click();
    assert.equal((await serves().textContent()).trim(), before, "nothing has changed");
    const loaded = await load(module);
    await loaded.waitFor({ state: "detached" });
    await serves().filter({ hasText: name }).waitFor();
    await picture("module-loaded", true);
    await button("Roll back …").click();
    const dialog = page.getByRole("dialog", { name: "Roll back" });
    await dialog.getByRole("button", { name: "Roll back", exact: true }).click();
    await dialog.waitFor({ state: "detached" });
    await serves().filter({ hasNotText: name }).waitFor();
    assert.equal((await serves().textContent()).trim(), before, "as it was");
  });

  await step("events tell of both", async () => {
    await page.keyboard.press("7");
    await main().getByText("by drain: page at 127.0.0.1").first().waitFor();
    await main().getByText("by weight: page at 127.0.0.1").first().waitFor();
    await picture("events");
  });

  await step("connections are searched", async () => {
    await page.keyboard.press("6");
    await main().getByLabel("Service").fill(service.replace(/^\w+ /, ""));
    await page.keyboard.press("Enter");
    await main().locator("table tbody tr").first().waitFor();
    await picture("connections");
    await main().getByLabel("Client").fill("nonsense");
    await main().getByRole("button", { name: "Search" }).click();
    await main().getByText("is no address").waitFor();
  });

  await step("light, dark, and as the system has it", async () => {
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.keyboard.press("1");
    await page.locator(".tile strong").first().waitFor();
    const light = await ground();
    await page.keyboard.press("t");
    assert.equal(await ground(), light, "light by hand is light");
    await page.keyboard.press("t");
    const dark = await ground();
    assert.notEqual(dark, light);
    await page.reload();
    await page.locator(".tile strong").first().waitFor();
    assert.equal(await ground(), dark, "it is remembered");
    await page.locator("svg.map").waitFor();
    await picture("overview-dark", true);
    await page.keyboard.press("t");
    await page.emulateMedia({ colorScheme: "dark" });
    assert.equal(await ground(), dark, "the system's");
  });

  await step("the clock can be stopped", async () => {
    await page.keyboard.press(".");
    const button = page.getByRole("button", { name: "Go on" });
    await button.waitFor();
    await button.click();
    await page.getByRole("button", { name: "Pause" }).waitFor();
  });
  await context.close();

  await step("360 pixels are enough", async () => {
    context = await open({ viewport: { width: 360, height: 740 }, colorScheme: "dark", hasTouch: true, isMobile: true });
    for (const [hash, wanted] of [["overview", "svg.map"], ["services", "tbody tr"], ["destinations", "tbody tr"], [`service/${encodeURIComponent(service)}`, "svg.map"], ["connections", "form"], ["events", "ol li"]]) {
      await page.evaluate((hash) => { location.hash = `#/${hash}`; }, hash);
      await main().locator(wanted).first().waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert(wide <= 360, `${hash} is ${wide} pixels wide`);
      await picture(`narrow-${hash.split("/")[0]}`, true);
    }
    await context.close();
  });

  assert.deepEqual(errors, [], "errors in the console");
  assert.deepEqual(elsewhere, [], "requests to elsewhere");
  console.log(steps.map((it) => `ok: ${it}`).join("\n"));
  console.log("passed");
} catch (error) {
  console.log(steps.map((it) => `ok: ${it}`).join("\n"));
  console.log(`failed after these: ${error.stack}`);
  console.log(`console: ${JSON.stringify(errors)}`);
  await page?.screenshot({ path: path.join(pictures, "failed.png") }).catch(() => {});
  process.exitCode = 1;
} finally {
  await browser.close();
}
