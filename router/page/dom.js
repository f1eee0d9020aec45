// Elements without markup: no text ever becomes HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" && "value" in element) element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** An element of HTML. */
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An element of SVG. */
export function s(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Puts children in the place of those that are there. */
export function put(element, ...children) {
  const fresh = document.createDocumentFragment();
  add(fresh, children);
  element.replaceChildren(fresh);
  return element;
}

/** Sets a text, if it is another one: what is selected stays selected. */
export function say(element, text) {
  text = String(text);
  if (element.textContent !== text) element.textContent = text;
}

const SHAPES = {
  up: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11z",
  down: "M3.4 3.4l9.2 9.2M12.6 3.4l-9.2 9.2",
  degraded: "M8 2.2l6.3 11.3H1.7z",
  held: "M4 2.5h8L4 13.5h8z",
  maint: "M5.2 3v10M10.8 3v10",
  drain: "M2.5 5l5.5 7l5.5-7z",
  full: "M2.8 2.8h10.4v10.4H2.8z",
  idle: "M8 2.9a5.1 5.1 0 1 0 0 10.2a5.1 5.1 0 0 0 0-10.2z",
  unchecked: "M5.2 6a2.8 2.8 0 1 1 4 2.5c-.9.5-1.2 1-1.2 2M8 12.8v.4",
  backup: "M8 2.5l5.5 5.5L8 13.5L2.5 8z",
};
const LINES = new Set(["down", "maint", "unchecked", "idle", "backup"]);
const LEVELS = {
  up: "good", down: "bad", degraded: "warn", held: "warn", full: "warn", drain: "note", maint: "note", idle: "dim",
  unchecked: "dim", backup: "dim", "cannot be made": "warn",
};
const WORDS = {
  up: "up", down: "down", degraded: "degraded", held: "held", maint: "maintenance", drain: "draining", full: "full",
  idle: "weight 0", unchecked: "unchecked", backup: "backup", "cannot be made": "cannot be made",
};

/** How bad a state is: good, note, dim, warn, bad. */
export function level(state) {
  return LEVELS[state] ?? "dim";
}

/** A state as shape, colour and word. */
export function state(name, word = WORDS[name] ?? name) {
  return h("span", { class: `state ${level(name)}` }, shape(name), h("span", { class: "word" }, word));
}

/** Its shape alone. */
export function shape(name) {
  const drawn = SHAPES[name] ? name : "degraded";
  return s("svg", { class: `shape ${level(name)}`, viewBox: "0 0 16 16", width: 12, height: 12, "aria-hidden": "true" },
    s("path", { d: SHAPES[drawn], class: LINES.has(drawn) ? "line" : "full" }));
}
