// Which view is shown, when it is refreshed, and what keys do.

import * as api from "./api.js";
import * as details from "./details.js";
import * as dialogs from "./dialogs.js";
import { h, level, put, say } from "./dom.js";
import * as views from "./views.js";
import * as words from "./words.js";

const TABS = [
  ["overview", "Overview"], ["services", "Services"], ["destinations", "Destinations"], ["checks", "Checks"],
  ["schedulers", "Schedulers"], ["connections", "Connections"], ["events", "Events"],
];
const SLOW = 10;

const at = (id) => document.getElementById(id);
const main = at("main");
const pauseButton = at("pause");
const lockButton = at("lock");

let view = null;
let leaving = new AbortController();
let paused = false;
let timer = 0;
let interval = 2;
let failing = false;
let busy = false;
let again = false;

/** What views have in common. */
const shared = {
  changes: "no",
  signal: null,
  latest: null,
  async overview() {
    const it = await api.overview();
    Object.assign(shared, { latest: it, changes: it.changes });
    interval = it.interval_s;
    return it;
  },
  refresh,
};

// Views.

const VIEWS = {
  overview: () => views.overview(shared),
  services: views.services,
  destinations: views.destinations,
  checks: views.checks,
  schedulers: views.schedulers,
  events: views.events,
  connections: (_, parameters) => views.connections(parameters),
  service: ([name]) => details.service(name, shared),
  destination: ([service, name]) => details.destination(service, name, shared),
};
const OF_TAB = { service: "services", destination: "destinations" };

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  let [name, ...rest] = path.split("/");
  try {
    rest = rest.map(decodeURIComponent);
  } catch {
    name = "overview";
  }
  if (!Object.hasOwn(VIEWS, name) || (OF_TAB[name] && rest.length === 0)) name = "overview";
  leaving.abort();
  leaving = new AbortController();
  shared.signal = leaving.signal;
  view = VIEWS[name](rest, new URLSearchParams(query));
  put(main, view.element);
  document.title = `${view.title} – uvs`;
  for (const tab of at("tabs").children) {
    if (tab.dataset.view === (OF_TAB[name] ?? name)) {
      tab.setAttribute("aria-current", "page");
      tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else {
      tab.removeAttribute("aria-current");
    }
  }
  scrollTo(0, 0);
  refresh();
}

/** Asks for everything that is shown. One at a time: a slow director is not asked the faster for it. */
async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  clearTimeout(timer);
  const shown = view;
  try {
    if (shown.title !== "Overview") await shared.overview();
    await shown.refresh();
    failing = false;
    at("offline").hidden = true;
  } catch (error) {
    failed(error);
  } finally {
    busy = false;
  }
  status();
  if (again) {
    again = false;
    return refresh();
  }
  if (!paused && !document.hidden) timer = setTimeout(refresh, 1000 * (failing ? SLOW / 2 : interval));
}

function failed(error) {
  if (error.status === 401) {
    // The token was changed, or is wrong: what is for reading goes on.
    api.lock();
    dialogs.toast("The token counts no longer.", "bad");
    again = true;
    return;
  }
  if (!(error instanceof api.Refused)) console.error(error);
  failing = true;
  const line = at("offline");
  say(line, `${error.message[0].toUpperCase()}${error.message.slice(1)}. What is shown is old; it is asked again.`);
  line.hidden = false;
}

/** The line at the top. */
function status() {
  const it = shared.latest;
  const pill = at("health");
  if (failing || !it) {
    pill.className = "pill bad";
    say(pill, failing ? "no answer" : "connecting");
    return;
  }
  const down = it.services_by_state.down ?? 0;
  const degraded = (it.services_by_state.degraded ?? 0) + (it.interfaces.some((one) => one.state !== "up") ? 1 : 0);
  const [kind, text] = it.notices.length ? ["down", "trouble"] : down ? ["down", `${down} service${down === 1 ? "" : "s"} down`]
    : degraded ? ["degraded", "degraded"] : ["up", "all up"];
  pill.className = `pill ${level(kind)}`;
  say(pill, text);
  say(at("when"), words.clock(it.time));
  lockButton.hidden = shared.changes === "no" || (shared.changes === "yes" && !api.hasToken());
  say(lockButton, shared.changes === "yes" ? "Lock" : "Unlock");
  lockButton.title = shared.changes === "yes" ? "No more changes from this tab (u)" : "Make changes from this tab (u)";
}

// What stands at the top.

put(at("tabs"), TABS.map(([name, title], index) => h("a", { href: `#/${name}`, "data-view": name, title: String(index + 1) }, title)));

function pause() {
  paused = !paused;
  pauseButton.setAttribute("aria-pressed", String(paused));
  say(pauseButton, paused ? "Go on" : "Pause");
  document.body.classList.toggle("paused", paused);
  if (!paused) refresh();
}

function lock() {
  if (shared.changes === "yes" && api.hasToken()) {
    api.lock();
    dialogs.toast("Locked.");
    refresh();
  } else if (shared.changes === "token") {
    dialogs.unlock(refresh);
  }
}

const THEMES = ["auto", "light", "dark"];
let theme = THEMES.includes(localStorage.getItem("uvs-theme")) ? localStorage.getItem("uvs-theme") : "auto";

function dress() {
  document.documentElement.dataset.theme = theme;
  put(at("theme"), h("span", { class: "c2" }, "Theme: "), theme);
}

function nextTheme() {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  localStorage.setItem("uvs-theme", theme);
  dress();
}

pauseButton.addEventListener("click", pause);
lockButton.addEventListener("click", lock);
at("theme").addEventListener("click", nextTheme);
at("help").addEventListener("click", dialogs.help);

// Keys.

const DO = {
  "/": () => (view.focus ? view.focus() : main.querySelector("input[type=search]")?.focus()),
  j: () => view.table?.focusFirst(),
  k: () => view.table?.focusFirst(),
  ArrowDown: () => view.table?.focusFirst(),
  n: () => view.table?.turn(1),
  p: () => view.table?.turn(-1),
  ".": pause,
  t: nextTheme,
  u: lock,
  "?": dialogs.help,
  h: dialogs.help,
  Backspace: () => history.back(),
};

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  const field = event.target.closest?.("input, select, textarea");
  if (field) {
    if (event.key === "Escape") field.blur();
    if (event.key === "ArrowDown" && field.classList.contains("filter") && view.table) {
      view.table.focusFirst();
      event.preventDefault();
    }
    return;
  }
  const tab = TABS[Number(event.key) - 1];
  if (tab && /^[1-9]$/.test(event.key)) location.hash = `#/${tab[0]}`;
  else if (DO[event.key]) DO[event.key]();
  else return;
  event.preventDefault();
});

// Nobody looks at a page that is hidden, and so nobody asks for it.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!paused) refresh();
});
addEventListener("hashchange", route);

dress();
route();
