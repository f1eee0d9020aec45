// One service, and one destination.

import * as api from "./api.js";
import * as dialogs from "./dialogs.js";
import { h, put, say, state } from "./dom.js";
import { draw, inWords } from "./map.js";
import { destinationLink, destinationsTable, serviceLink, serving } from "./views.js";
import * as words from "./words.js";

/** The most real servers in a picture. */
const SHOWN = 8;

const whole = (service, destination) => `${service.replaceAll(" ", "/")}/${destination}`;

/** Buttons that are there for those who may use them. */
function actions(shared, ...buttons) {
  const element = h("div", { class: "actions" }, buttons, h("p", { class: "about locked" }));
  const note = element.lastChild;
  return {
    element,
    show() {
      const may = shared.changes === "yes";
      for (const button of buttons) button.disabled = !may;
      say(note, may ? "" : shared.changes === "token" ? "Locked: unlock changes (u) first." : "This page is for reading.");
      note.hidden = may;
    },
  };
}

function module(it) {
  const failures = Object.entries(it.failures).map(([cause, n]) => `${cause} ${words.exact(n)}`);
  return [
    ["Module", it.origin],
    ["SHA-256", it.sha256 ? `${it.sha256.slice(0, 16)}…` : "–"],
    ["Picks", `${words.exact(it.picks)}${it.none ? `, none for ${words.exact(it.none)}` : ""}${it.fallbacks ? `, ${words.exact(it.fallbacks)} by the fallback` : ""}`],
    ["A pick takes", it.timed ? `${words.nanos(it.timed_ns / it.timed)} on average, 99 of 100 below ${words.nanos(it.p99_ns)}` : "–"],
    ["Failures", failures.length ? failures.join(", ") : "none"],
    it.last_failure ? ["The last one", it.last_failure] : null,
  ].filter(Boolean);
}

const pairs = (all) => h("dl", { class: "pairs" }, all.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

/** How a shadow's answers compare with those of the module that serves. */
function comparison(trial) {
  const all = trial.same + trial.different;
  const share = all ? (100 * trial.same) / all : 0;
  const bar = h("div", { class: "compare", role: "img", "aria-label": `${words.percent(trial.same, all)} of its answers are the same` },
    h("span", { class: "same" }), h("span", { class: "different" }));
  bar.firstChild.style.flexGrow = String(share);
  bar.lastChild.style.flexGrow = String(all ? 100 - share : 0);
  return [bar, h("p", { class: "legend" },
    h("span", {}, h("i", { class: "same" }), ` the same ${words.exact(trial.same)} (${words.percent(trial.same, all)})`),
    h("span", {}, h("i", { class: "different" }), ` different ${words.exact(trial.different)}`))];
}

export function service(name, shared) {
  const head = h("div", { class: "headline" });
  const map = h("figure", { class: "panel mapbox" });
  const scheduler = h("section", { class: "panel" });
  const table = destinationsTable(name);
  const done = () => shared.refresh();
  const buttons = actions(shared,
    h("button", { type: "button", onclick: () => dialogs.load(name, done) }, "Load a module …"),
    h("button", { type: "button", onclick: () => dialogs.confirm("Roll back", `${name} goes back to the module before this one.`, "Roll back", () => api.control({ sched: { rollback: { service: name } } }), done) }, "Roll back …"),
    h("button", { type: "button", class: "promote", hidden: true, onclick: () => dialogs.confirm("Promote", `The module on trial takes over for ${name}.`, "Promote", () => api.control({ sched: { promote: { service: name } } }), done) }, "Promote the trial …"));
  const sections = h("div", { class: "schedulerbox" });
  put(scheduler, h("h2", {}, "Scheduler"), sections, buttons.element);
  let drawn = "";
  let latest = null;
  const picture = () => {
    if (!latest) return;
    const { row, busiest, found } = latest;
    const ends = busiest.map((it) => ({
      name: it.name, more: `${words.method(it.forwarding)} · weight ${it.weight} · ${words.rate(it.connections_per_s)}`,
      method: it.forwarding, state: it.state, connections: it.connections_per_s, bytesIn: it.bytes_in_per_s,
      bytesOut: it.bytes_out_per_s, href: destinationLink(name, it.name),
    }));
    const key = JSON.stringify([ends, found, row.scheduler, map.clientWidth]);
    if (key === drawn) return;
    drawn = key;
    put(map, h("figcaption", {}, "The way of packets", found > ends.length ? h("small", {}, `  the ${ends.length} busiest of ${words.exact(found)}`) : null),
      ends.length ? draw(ends, {
        room: map.clientWidth - 26, label: `The way of packets of ${name}: ${inWords(ends)}`,
        director: map.clientWidth < 590 ? ["Director", row.scheduler] : [name.replace(/^\w+ /, ""), `scheduler ${row.scheduler}`],
        clients: ["Clients", words.rate(row.connections_per_s)],
      }) : h("p", { class: "none" }, "It has no destinations."));
  };
  addEventListener("resize", picture, { signal: shared.signal });
  return {
    title: name,
    element: h("div", {}, h("p", { class: "crumbs" }, h("a", { href: "#/services" }, "Services"), " › "), head, map, scheduler,
      h("h2", { class: "outside" }, "Destinations"), table.element),
    table,
    async refresh() {
      const [rows, busiest, schedulers] = await Promise.all([
        api.rows({ table: "services", service: name, limit: 1 }),
        api.rows({ table: "destinations", service: name, sort: "connections_per_s", descending: true, limit: SHOWN }),
        api.rows({ table: "schedulers", service: name, limit: 1 }),
        table.refresh(),
      ]);
      const row = rows.rows[0];
      if (!row) {
        put(head, h("h1", {}, name), h("p", {}, "There is no service of that name (any more)."));
        map.hidden = true;
        scheduler.hidden = true;
        return;
      }
      map.hidden = false;
      scheduler.hidden = false;
      put(head, h("h1", {}, name), state(row.state), row.reason ? h("span", { class: "about" }, row.reason) : null,
        h("span", { class: "gap" }), h("span", { class: "figures" },
          h("span", {}, h("b", {}, words.rate(row.connections_per_s)), " new"), h("span", {}, h("b", {}, words.count(row.active)), " active"),
          h("span", {}, h("b", {}, `${row.available}/${row.destinations_total}`), " servers"),
          h("a", { href: `#/connections?${new URLSearchParams({ service: name.replace(/^\w+ /, "") })}` }, "its connections")));
      latest = { row, busiest: busiest.rows.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })), found: busiest.found };
      picture();
      const it = schedulers.rows[0];
      if (it) {
        const before = it.loaded > 0;
        buttons.element.querySelector(".promote").hidden = !it.trial;
        put(sections,
          h("div", {}, h("h3", {}, it.scheduler, " ", serving(it.module.serving)),
            pairs([...module(it.module), ["Fallback", it.fallback], ["Took over", `${words.clock(new Date(it.since * 1000).toISOString())}${before ? `, as one of ${it.loaded} that took over since the start` : ""}`]])),
          it.trial ? h("div", {}, h("h3", {}, it.trial.mode === "shadow" ? "Shadow" : `Canary, ${it.trial.percent} %`),
            it.trial.mode === "shadow" ? comparison(it.trial) : pairs([["Placed", words.exact(it.trial.placed)], ["Passed on", words.exact(it.trial.passed_on)]]),
            pairs(module(it.trial.module))) : null);
      }
      scheduler.hidden = !it;
      buttons.show();
    },
  };
}

const volume = (bytes, packets) => (packets ? `${words.bandwidth(bytes)}, ${words.rate(packets)} packets` : "nothing now");

const WRITERS = {
  file: "the configuration file", adm: "uvs adm, or this page", operator: "operators", agent: "the agent on the server", script: "a check program",
  "slow start": "slow start", health: "health", "administrative state": "people",
};

export function destination(service, name, shared) {
  const head = h("div", { class: "headline" });
  const facts = h("section", { class: "panel" });
  const weight = h("section", { class: "panel" });
  const checks = h("section", { class: "panel" });
  const full = whole(service, name);
  const done = () => shared.refresh();
  let row = null;
  const buttons = actions(shared,
    h("button", { type: "button", onclick: () => dialogs.drain(full, done) }, "Drain …"),
    h("button", { type: "button", onclick: () => dialogs.undrain(full, done) }, "Serve again"),
    h("button", { type: "button", onclick: () => dialogs.weigh(full, row?.weight ?? 1, done) }, "Weight …"));
  return {
    title: name,
    element: h("div", {}, h("p", { class: "crumbs" }, h("a", { href: "#/services" }, "Services"), " › ", h("a", { href: serviceLink(service) }, service), " › "),
      head, buttons.element, h("div", { class: "columns" }, h("div", {}, facts, weight), h("div", {}, checks))),
    async refresh() {
      buttons.show();
      const found = await api.rows({ table: "destinations", service, filter: name, limit: 200 });
      row = found.rows.find((it) => it.name === name);
      if (!row) {
        put(head, h("h1", {}, name), h("p", {}, "There is no such destination (any more)."));
        for (const it of [facts, weight, checks, buttons.element]) it.hidden = true;
        return;
      }
      const answer = await api.control({ destination: { name: full, ask: { explain: {} } } });
      const way = words.METHODS[row.forwarding];
      put(head, h("h1", {}, name), state(row.state), h("span", { class: "gap" }), h("span", { class: "figures" },
        h("span", {}, h("b", {}, words.rate(row.connections_per_s)), " new"), h("span", {}, h("b", {}, words.count(row.active)), " active")));
      const drain = answer.drain;
      put(facts, h("h2", {}, "Traffic"), pairs([
        ["Way", `${way?.name ?? row.forwarding}: ${way?.answers ?? ""}`],
        ["Connections", `${words.exact(row.active)} active, ${words.exact(row.inactive)} inactive, ${words.exact(row.counters.connections)} so far`],
        ["From clients", volume(row.bytes_in_per_s, row.packets_in_per_s)],
        row.forwarding === "nat" ? ["To clients", volume(row.bytes_out_per_s, row.packets_out_per_s)] : null,
        ["In the table", `${words.exact(answer.left.open)} open, ${words.exact(answer.left.ended)} ended, ${words.exact(answer.left.templates)} templates`],
        drain ? ["Drain", `${drain.phase}, for ${words.duration(drain.age_s)}, ${words.exact(drain.open)} open${drain.deadline_s === undefined ? "" : `, ${words.duration(drain.deadline_s)} to the deadline`}${drain.then ? `, then ${drain.then}` : ""}`] : null,
      ].filter(Boolean)),
      h("p", {}, h("a", { href: `#/connections?${new URLSearchParams({ destination: name })}` }, "its connections")));
      put(weight, h("h2", {}, `Weight ${answer.weight}`), h("table", { "aria-label": "who decides on the weight" }, h("thead", {}, h("tr", {}, ["Who", "says", "for"].map((it) => h("th", { scope: "col" }, it)))),
        h("tbody", {}, answer.slots.filter((it) => it.value !== undefined || it.decides).map((it) => h("tr", { class: it.decides ? "decides" : null },
          h("td", {}, it.decides ? h("span", { class: "mark" }, "▸ ") : null, `${WRITERS[it.writer] ?? it.writer}`), h("td", {}, it.value ?? "–"), h("td", {}, words.duration(it.age_s)))))),
        h("p", { class: "about" }, "The marked one has the last word."));
      const all = row.health?.checks ?? [];
      put(checks, h("h2", {}, "Checks"), all.length ? all.map((it) => h("article", { class: "check" },
        h("h3", {}, state(it.state), ` ${it.name}`),
        pairs([
          ["Probe", it.probe],
          ["Last result", `${it.last ?? "none yet"}${it.last_age_s === undefined ? "" : `, ${words.duration(it.last_age_s)} ago`}${it.took_s === undefined ? "" : `, took ${words.duration(it.took_s)}`}`],
          [`${it.state} for`, words.duration(it.since_s)],
          ["Probes", `${words.exact(it.passed)} passed, ${words.exact(it.failed)} failed${it.unmade ? `, ${words.exact(it.unmade)} not made` : ""}`],
          it.against ? ["Against it", `${it.against} of ${it.needed} results that change it`] : null,
          it.certificate_expires ? ["Certificate", `expires ${words.clock(new Date(it.certificate_expires * 1000).toISOString())}`] : null,
        ].filter(Boolean)))) : h("p", { class: "fine" }, "It is not checked: see [[check]] in the configuration."));
    },
  };
}
