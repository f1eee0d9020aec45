// What asks back before something is done.

import * as api from "./api.js";
import { h, put } from "./dom.js";

let opener = null;

/** Opens a dialog; it is gone once it is closed, and the focus is back where it was. */
export function dialog(title, ...content) {
  opener = document.activeElement;
  const element = h("dialog", { class: "dialog", "aria-label": title },
    h("header", {}, h("h2", {}, title),
      h("button", { type: "button", class: "plain", "aria-label": "Close", onclick: () => element.close() }, "✕")),
    content);
  element.addEventListener("close", () => {
    element.remove();
    if (opener?.isConnected) opener.focus();
  });
  element.addEventListener("click", (event) => {
    if (event.target === element) element.close();
  });
  document.body.append(element);
  element.showModal();
  return element;
}

/** A line that says what happened, for a while. */
export function toast(text, kind = "good") {
  const line = h("p", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(line);
  setTimeout(() => line.remove(), kind === "bad" ? 12000 : 6000);
}

/** A form in a dialog; `send` gets its fields, and what it throws is shown. */
function form(title, about, fields, verb, send) {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const go = h("button", { class: "primary" }, verb);
  const element = h("form", {
    method: "dialog", onsubmit: async (event) => {
      event.preventDefault();
      go.disabled = true;
      problem.hidden = true;
      try {
        await send(new FormData(element));
        shown.close();
      } catch (error) {
        put(problem, error.message);
        problem.hidden = false;
      } finally {
        go.disabled = false;
      }
    },
  }, about && h("p", { class: "about" }, about), fields, problem,
  h("footer", {}, h("button", { type: "button", onclick: () => shown.close() }, "Cancel"), go));
  const shown = dialog(title, element);
  element.querySelector("input, select")?.focus();
  return shown;
}

function field(label, input, note) {
  return h("label", { class: "field" }, h("span", {}, label), input, note && h("small", {}, note));
}

export function unlock(done) {
  form("Unlock changes", "Enter the token of this director. It stays in this tab, until the tab is closed.", [
    // Not a password of a site, and nothing for a browser to keep.
    field("Token", h("input", { name: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" })),
  ], "Unlock", async (fields) => {
    await api.unlock(fields.get("token").trim());
    done();
    toast("Unlocked: changes can be made from this tab.");
  });
}

export function drain(name, done) {
  form("Drain", `No new connections go to ${name}. Those that it has go on until they end, or until the deadline.`, [
    field("Deadline", h("input", { name: "deadline", type: "number", min: 1, max: 86400, step: 1, placeholder: "none", inputmode: "numeric" }),
      "in seconds; empty: until the last connection has ended"),
    field("At the deadline", h("select", { name: "reset" },
      h("option", { value: "" }, "leave connections alone"), h("option", { value: "yes" }, "reset what is left (TCP)"))),
    field("Then", h("select", { name: "then" },
      h("option", { value: "" }, "stay drained"), h("option", { value: "maint" }, "maintenance"),
      h("option", { value: "ready" }, "serve again"), h("option", { value: "remove" }, "remove it from the service"))),
  ], "Drain", async (fields) => {
    const seconds = Number(fields.get("deadline"));
    const terms = { reset: fields.get("reset") === "yes" };
    if (seconds > 0) terms.deadline_ms = seconds * 1000;
    if (fields.get("then")) terms.then = fields.get("then");
    await api.control({ destination: { name, ask: { drain: terms } } });
    toast(`${name} drains.`);
    done();
  });
}

export async function undrain(name, done) {
  try {
    await api.control({ destination: { name, ask: { undrain: {} } } });
    toast(`${name} serves again.`);
    done();
  } catch (error) {
    toast(error.message, "bad");
  }
}

export function weigh(name, weight, done) {
  form("Set weight", `The weight of ${name}, until the next reload: the configuration file wins then.`, [
    field("Weight", h("input", { name: "weight", type: "number", min: 0, max: 2147483647, step: 1, value: weight, required: true, inputmode: "numeric" }),
      "0: no new connections"),
  ], "Set", async (fields) => {
    const to = Number(fields.get("weight"));
    const answer = await api.control({ destination: { name, ask: { weight: to } } });
    toast(answer.weight === to ? `${name} weighs ${to}.` : `${name} weighs ${answer.weight} for now: see who decides on it.`);
    done();
  });
}

/** A file in base64, without the head that a data URL has. */
function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(new Error("the file cannot be read")));
    reader.readAsDataURL(file);
  });
}

export function load(service, done) {
  form("Load a module", `A scheduler for ${service}. It is compiled and tried beside the traffic, and takes over only if it does well.`, [
    field("Component", h("input", { name: "file", type: "file", accept: ".wasm", required: true }), "a .wasm component"),
  ], "Load", async (fields) => {
    const file = fields.get("file");
    const answer = await api.control({ sched: { load: { service, file: file.name, content: await base64(file) } } });
    toast(answer.text);
    done();
  });
}

export function confirm(title, about, verb, send, done) {
  form(title, about, [], verb, async () => {
    const answer = await send();
    toast(answer.text ?? "Done.");
    done();
  });
}

const KEYS = [
  ["1 … 7", "the views, from left to right"],
  ["/", "filter, or search"],
  ["↓ ↑ or j k", "rows"],
  ["Enter", "open a row"],
  ["n p", "next page, page before"],
  ["Backspace", "back"],
  [".", "stop the clock, or go on"],
  ["t", "light, dark, or as the system has it"],
  ["u", "unlock or lock changes"],
  ["? or h", "this help"],
  ["Esc", "close, or leave a field"],
];

export function help() {
  dialog("Keys", h("dl", { class: "keys" }, KEYS.map(([keys, what]) => [
    h("dt", {}, keys.split(/( or | … | )/).map((part) => (/^( or | … | )$/.test(part) ? part : h("kbd", {}, part)))),
    h("dd", {}, what),
  ])), h("p", { class: "about" }, "Rates are of the last seconds; small pictures show the last minutes in which somebody looked."));
}
