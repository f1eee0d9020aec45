// The views. Each has an element, and refresh(), which asks the director and shows what it says.

import * as api from "./api.js";
import { sparkline } from "./chart.js";
import { h, level, put, say, shape, state } from "./dom.js";
import { draw, inWords } from "./map.js";
import { Table, made, text } from "./table.js";
import * as words from "./words.js";

export const serviceLink = (name) => `#/service/${encodeURIComponent(name)}`;
export const destinationLink = (service, name) =>
  `#/destination/${encodeURIComponent(service)}/${encodeURIComponent(name)}`;

const go = (link) => {
  location.hash = link;
};

/** A cell with a picture of the latest rates. */
function rateHistory(label, of) {
  return () => {
    const line = sparkline(label);
    return { node: line.picture, show: (row) => line.show(of(row)) };
  };
}

const rates = [
  { title: "New/s", sort: "connections_per_s", kind: "num", make: text((row) => words.rate(row.connections_per_s)) },
  { title: "", kind: "c2 pic", make: rateHistory("new connections, the last minutes", (row) => row.history?.connections_per_s) },
  { title: "In", sort: "bytes_in_per_s", kind: "num c3", make: text((row) => words.bandwidth(row.bytes_in_per_s)) },
  { title: "Out", sort: "bytes_out_per_s", kind: "num c3", make: text((row) => words.bandwidth(row.bytes_out_per_s)) },
];

const stateColumn = { title: "State", sort: "state", kind: "st", make: made((row) => state(row.state), (row) => row.state) };

const badges = (methods) => methods.map((it) => h("span", { class: `badge ${it}`, title: words.METHODS[it]?.long }, words.method(it)));

export function services() {
  const table = new Table({
    label: "services", sort: "name", empty: "There are no services.",
    ask: (query) => api.rows({ table: "services", ...query }),
    key: (row) => row.name, open: (row) => go(serviceLink(row.name)),
    columns: [
      stateColumn,
      { title: "Service", sort: "name", kind: "name", make: made((row) => h("a", { href: serviceLink(row.name), tabindex: "-1" }, row.name), (row) => row.name) },
      { title: "Way", kind: "c2", make: made((row) => badges(row.forwarding), (row) => row.forwarding.join()) },
      { title: "Scheduler", sort: "scheduler", kind: "c3", make: text((row) => row.scheduler) },
      { title: "Servers", sort: "available", kind: "num", make: text((row) => `${row.available}/${row.destinations_total}`) },
      { title: "Active", sort: "active", kind: "num c2", make: text((row) => words.count(row.active)) },
      { title: "Inactive", sort: "inactive", kind: "num c3", make: text((row) => words.count(row.inactive)) },
      ...rates,
    ],
  });
  return { title: "Services", element: h("div", {}, h("h1", {}, "Services"), table.element), refresh: () => table.refresh(), table };
}

export function destinationsTable(service) {
  const own = service === undefined;
  return new Table({
    label: "destinations", sort: own ? "state" : "name", empty: "There are no destinations.",
    ask: (query) => api.rows({ table: "destinations", ...(own ? {} : { service }), ...query }),
    key: (row) => `${row.service} ${row.name}`, open: (row) => go(destinationLink(row.service, row.name)),
    columns: [
      stateColumn,
      { title: "Destination", sort: "name", kind: "name", make: made((row) => h("a", { href: destinationLink(row.service, row.name), tabindex: "-1" }, row.name), (row) => row.name) },
      ...(own ? [{ title: "Service", sort: "service", kind: "c2", make: text((row) => row.service) }] : []),
      { title: "Way", sort: "forwarding", kind: "c2", make: made((row) => badges([row.forwarding]), (row) => row.forwarding) },
      { title: "Weight", sort: "weight", kind: "num c2", make: text((row) => row.weight) },
      { title: "Active", sort: "active", kind: "num", make: text((row) => words.count(row.active)) },
      { title: "Inactive", sort: "inactive", kind: "num c3", make: text((row) => words.count(row.inactive)) },
      ...rates,
    ],
  });
}

export function destinations() {
  const table = destinationsTable();
  return { title: "Destinations", element: h("div", {}, h("h1", {}, "Destinations"), table.element), refresh: () => table.refresh(), table };
}

export function checksTable(service) {
  const own = service === undefined;
  return new Table({
    label: "checks", sort: "state", empty: own ? "No destination is checked: see [[check]] in the configuration." : "Nothing is checked here.",
    ask: (query) => api.rows({ table: "checks", ...(own ? {} : { service }), ...query }),
    key: (row) => `${row.service} ${row.destination} ${row.name}`,
    open: (row) => go(destinationLink(row.service, row.destination)),
    columns: [
      { title: "State", sort: "state", kind: "st", make: made((row) => state(row.state), (row) => row.state) },
      { title: "Destination", sort: "destination", kind: "name", make: text((row) => row.destination) },
      ...(own ? [{ title: "Service", sort: "service", kind: "c2", make: text((row) => row.service) }] : []),
      { title: "Check", sort: "name", kind: "c3", make: text((row) => row.name, { class: "word-wrap" }) },
      { title: "Last result", kind: "wide", make: text((row) => (row.overdue ? "overdue" : row.last ?? "none yet")) },
      { title: "Took", sort: "took_s", kind: "num c2", make: text((row) => words.duration(row.took_s)) },
      { title: "For", sort: "since_s", kind: "num", make: text((row) => words.duration(row.since_s)) },
      { title: "Failed", sort: "failed", kind: "num c3", make: text((row) => words.count(row.failed)) },
    ],
  });
}

export function checks() {
  const table = checksTable();
  return { title: "Checks", element: h("div", {}, h("h1", {}, "Checks"), table.element), refresh: () => table.refresh(), table };
}

/** Who picks, as a state. */
export function serving(name) {
  if (name === "module") return state("up", "serves");
  return state(name === "given_up" ? "down" : "degraded", name === "given_up" ? "given up: the fallback picks" : "ejected: the fallback picks");
}

/** What a trial says, in a few words. */
export function trialWords(trial) {
  if (!trial) return "–";
  if (trial.mode === "shadow") {
    const all = trial.same + trial.different;
    return `shadow: ${words.percent(trial.same, all)} the same of ${words.count(all)}`;
  }
  return `canary ${trial.percent ?? ""} %: placed ${words.count(trial.placed)}`;
}

export function schedulers() {
  const failures = (row) => Object.values(row.module.failures).reduce((sum, it) => sum + it, 0);
  const table = new Table({
    label: "schedulers", sort: "service", empty: "There are no services, and so no schedulers.",
    ask: (query) => api.rows({ table: "schedulers", ...query }),
    key: (row) => row.service, open: (row) => go(serviceLink(row.service)),
    columns: [
      { title: "State", kind: "st", make: made((row) => serving(row.module.serving), (row) => row.module.serving) },
      { title: "Service", sort: "service", kind: "name", make: made((row) => h("a", { href: serviceLink(row.service), tabindex: "-1" }, row.service), (row) => row.service) },
      { title: "Scheduler", sort: "scheduler", make: text((row) => row.scheduler) },
      { title: "Picks/s", sort: "picks_per_s", kind: "num", make: text((row) => words.rate(row.picks_per_s)) },
      { title: "p99", sort: "p99_ns", kind: "num c2", make: text((row) => words.nanos(row.module.p99_ns)) },
      { title: "Failures", sort: "failures", kind: "num c2", make: text((row) => words.count(failures(row))) },
      { title: "On trial", kind: "c2 wide", make: text((row) => trialWords(row.trial)) },
      { title: "Fallback", kind: "c3", make: text((row) => row.fallback) },
    ],
  });
  return { title: "Schedulers", element: h("div", {}, h("h1", {}, "Schedulers"), table.element), refresh: () => table.refresh(), table };
}

export function events() {
  const list = h("ol", { class: "events", reversed: true });
  const filter = h("input", { type: "search", class: "filter", placeholder: "Filter  ( / )", "aria-label": "Filter events", oninput: () => show(), spellcheck: "false" });
  const count = h("span", { class: "count", role: "status" });
  const known = new Map();
  let last = 0;
  const show = () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...known.values()].sort((a, b) => b.number - a.number);
    const found = all.filter((it) => wanted.every((word) => it.text.includes(word)));
    say(count, `${words.exact(found.length)} of the latest ${words.exact(all.length)}`);
    put(list, found.slice(0, 300).map((it) => it.line));
  };
  const line = (it) => {
    const said = words.event(it);
    const where = [it.service && h("a", { href: serviceLink(it.service) }, it.service),
      it.destination && h("a", { href: destinationLink(it.service, it.destination) }, it.destination),
      it.check && h("span", {}, it.check)].filter(Boolean);
    return h("li", {}, h("time", { datetime: it.time, title: it.time }, words.clock(it.time)),
      h("span", { class: "what" }, shape(said.state), h("span", {}, said.words)),
      h("span", { class: "where" }, where.map((part, at) => [at ? " › " : "", part])),
      h("span", { class: "why" }, [it.by && `by ${it.by}`, it.reason].filter(Boolean).join(": ")));
  };
  return {
    title: "Events",
    element: h("div", {}, h("h1", {}, "Events"),
      h("div", { class: "bar" }, filter, h("span", { class: "gap" }), count), list),
    async refresh() {
      const { events: fresh } = await api.control({ events: { last: last ? 256 : 500 } });
      // A director that started anew counts anew.
      if (fresh.length && fresh.at(-1).number < last) known.clear();
      const now = fresh.at(-1)?.number ?? 0;
      if (now === last && known.size) return;
      last = now;
      for (const it of fresh) {
        if (!known.has(it.number)) known.set(it.number, { number: it.number, text: JSON.stringify(it).toLowerCase(), line: line(it) });
      }
      show();
    },
  };
}

export function connections(parameters) {
  const input = (name, label, placeholder) => h("label", { class: "field" }, h("span", {}, label),
    h("input", { name, type: "search", placeholder, value: parameters.get(name) ?? "", spellcheck: "false", autocomplete: "off" }));
  const found = h("p", { class: "count", role: "status" });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const body = h("tbody");
  const table = h("table", { "aria-label": "connections", hidden: true }, h("thead", {}, h("tr", {},
    ["", "Client", "Service", "Destination", "Way", "State", "Expires"].map((title, at) =>
      h("th", { scope: "col", class: ["c2", "", "c2", "", "c3", "", "num c2"][at] }, title)))), body);
  let looked = false;
  const look = async () => {
    const fields = new FormData(form);
    const wanted = Object.fromEntries(["client", "service", "destination", "state"]
      .map((name) => [name, (fields.get(name) ?? "").trim()]).filter(([, value]) => value));
    looked = true;
    const query = new URLSearchParams(wanted).toString();
    window.history.replaceState(null, "", `#/connections${query ? `?${query}` : ""}`);
    problem.hidden = true;
    say(found, "looking …");
    try {
      const answer = await api.control({ connections: { ...wanted, limit: 200 } });
      say(found, answer.found > answer.connections.length
        ? `${words.exact(answer.connections.length)} of ${words.exact(answer.found)} connections: say more to see fewer`
        : `${words.exact(answer.found)} connection${answer.found === 1 ? "" : "s"}`);
      table.hidden = answer.connections.length === 0;
      put(body, answer.connections.map((it) => h("tr", {},
        h("td", { class: "c2" }, it.protocol),
        h("td", { class: "name" }, it.client), h("td", { class: "c2" }, it.service), h("td", {}, it.destination),
        h("td", { class: "c3" }, badges([it.forwarding])),
        h("td", {}, it.template ? "template" : h("span", { class: it.active ? "strong" : "soft" }, it.state)),
        h("td", { class: "num c2" }, words.duration(it.expires_s)))));
    } catch (error) {
      say(found, "");
      table.hidden = true;
      put(problem, error.message);
      problem.hidden = false;
    }
  };
  const states = ["", "SYN_RECV", "SYN_SENT", "ESTABLISHED", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "UDP", "NONE"];
  const form = h("form", { class: "search", onsubmit: (event) => { event.preventDefault(); look(); } },
    input("client", "Client", "192.0.2.7 or 192.0.2.7:40000 or 192.0.2.0/24"),
    input("service", "Service", "address, with or without a port"),
    input("destination", "Destination", "address, with or without a port"),
    h("label", { class: "field" }, h("span", {}, "State"), h("select", { name: "state" },
      states.map((it) => h("option", { value: it, selected: it === (parameters.get("state") ?? "") }, it || "any")))),
    h("button", { class: "primary" }, "Search"));
  return {
    title: "Connections",
    element: h("div", {}, h("h1", {}, "Connections"),
      h("p", { class: "about" }, "The director looks through its whole table for what you ask, beside the traffic."),
      form, problem, found, h("div", { class: "scroll" }, table)),
    // Not by itself: a table of a million connections is not looked through every two seconds.
    async refresh() {
      if (!looked && parameters.size) await look();
    },
    focus: () => form.elements.client.focus(),
  };
}

// The overview.

/** What the director does not record, as far as it was seen here: the last minutes of it. */
const seen = { time: "", out: [], drops: [] };

function note(time, out, drops) {
  if (time === seen.time) return;
  seen.time = time;
  for (const [all, value] of [[seen.out, out], [seen.drops, drops]]) {
    all.push(value);
    if (all.length > 60) all.shift();
  }
}

function tile(label) {
  const value = h("strong", {});
  const more = h("small", {});
  const line = sparkline(label);
  const fill = h("i", {});
  const meter = h("div", { class: "meter", hidden: true }, fill);
  return {
    element: h("div", { class: "tile" }, h("span", { class: "label" }, label), value, more, line.picture, meter),
    /** With rates of late, or with a share of a whole. */
    show(said, beside, { rates, share }) {
      say(value, said);
      say(more, beside ?? "");
      line.picture.toggleAttribute("hidden", !rates);
      meter.hidden = share === undefined;
      if (rates) line.show(rates);
      if (share !== undefined) fill.style.width = `${Math.min(100, 100 * share)}%`;
    },
  };
}

function byState(counts, order, link) {
  return order.filter((name) => counts[name]).map((name) =>
    h("a", { class: "tally", href: link }, state(name), h("b", {}, words.exact(counts[name]))));
}

const ORDER = ["down", "degraded", "held", "maint", "drain", "full", "idle", "unchecked", "cannot be made", "backup", "up"];

export function overview(shared) {
  const tiles = {
    rate: tile("New connections"), table: tile("Connection table"), in: tile("From clients"), out: tile("To clients"), drops: tile("Dropped"),
  };
  const map = h("figure", { class: "panel mapbox" });
  const troubles = h("section", { class: "panel" });
  const tallies = h("section", { class: "panel tallies" });
  const interfaces = h("section", { class: "panel" });
  const about = h("section", { class: "panel" });
  const drops = h("section", { class: "panel" });
  const shown = new Map();
  const once = (element, key, make) => {
    const now = JSON.stringify(key);
    if (shown.get(element) === now) return;
    shown.set(element, now);
    put(element, make());
  };
  let latest = null;
  const picture = () => {
    if (!latest) return;
    const ends = latest.methods.map((it) => ({
      name: `${words.method(it.forwarding)} · ${it.available}/${it.destinations}`,
      more: `${words.rate(it.connections_per_s)} · ${words.count(it.active)} active`,
      method: it.forwarding, state: it.available ? "up" : "down",
      connections: it.connections_per_s, bytesIn: it.bytes_in_per_s, bytesOut: it.bytes_out_per_s,
      href: "#/destinations",
    }));
    const key = [ends, map.clientWidth];
    once(map, key, () => (ends.length ? [
      h("figcaption", {}, "The way of packets"),
      draw(ends, {
        room: map.clientWidth - 26, label: `The way of packets: ${inWords(ends)}`,
        director: ["Director", `${words.count(Object.values(latest.services_by_state).reduce((a, b) => a + b, 0))} services`],
        clients: ["Clients", words.rate(latest.rates.connections_per_s)],
      })] : h("p", { class: "none" }, "There are no services yet: add some to the configuration, and reload.")));
  };
  addEventListener("resize", picture, { signal: shared.signal });
  return {
    title: "Overview",
    element: h("div", { class: "overview" }, h("h1", { class: "hidden" }, "Overview"),
      h("div", { class: "tiles" }, Object.values(tiles).map((it) => it.element)),
      map, h("div", { class: "columns" }, h("div", {}, troubles, interfaces), h("div", {}, tallies, drops, about))),
    async refresh() {
      const it = await shared.overview();
      latest = it;
      const limit = it.limits.find((limit) => limit.name === "connections") ?? { used: 0, max: 0 };
      const dropped = Object.values(it.drops_per_s).reduce((sum, one) => sum + one, 0);
      note(it.time, it.rates.bytes_out_per_s, dropped);
      tiles.rate.show(words.rate(it.rates.connections_per_s), `${words.count(it.total.connections)} so far`, { rates: it.history.connections_per_s });
      tiles.table.show(words.count(limit.used), `${words.percent(limit.used, limit.max)} of ${words.count(limit.max)} entries`, { share: limit.max ? limit.used / limit.max : 0 });
      tiles.in.show(words.bandwidth(it.rates.bytes_in_per_s), `${words.rate(it.rates.packets_in_per_s)} packets`, { rates: it.history.bytes_in_per_s });
      tiles.out.show(words.bandwidth(it.rates.bytes_out_per_s), `${words.rate(it.rates.packets_out_per_s)} packets, NAT only`, { rates: seen.out });
      tiles.drops.show(words.rate(dropped), `${words.count(it.drops.reduce((sum, one) => sum + one.frames, 0))} so far`, { rates: seen.drops });
      picture();
      const lines = [
        ...it.notices.map((text) => ({ state: "down", text })),
        ...it.interfaces.filter((one) => one.state !== "up").map((one) => ({ state: one.state === "down" ? "down" : "degraded", text: `interface ${one.name} is ${one.state}: ${one.reasons.join("; ")}` })),
        ...(it.reload && it.reload.outcome !== "done" ? [{ state: "degraded", text: `the latest reload ${it.reload.outcome === "refused" ? "was refused, nothing was changed" : "failed, some of it is in force"}: ${it.reload.reasons[0] ?? ""}` }] : []),
        ...it.troubles.map((one) => ({ ...one, text: null })),
      ];
      once(troubles, lines, () => [h("h2", {}, "What is wrong"),
        lines.length ? h("ul", { class: "troubles" }, lines.map((one) => h("li", { class: level(one.state) }, shape(one.state),
          h("span", {}, one.text ?? [
            h("a", { href: one.destination ? destinationLink(one.service, one.destination) : serviceLink(one.service) }, one.destination ? `${one.service} › ${one.destination}` : one.service),
            ` ${one.destination ? one.state : ""}${one.reason ? `${one.destination ? ": " : " "}${one.reason}` : ""}`,
          ])))) : h("p", { class: "fine" }, shape("up"), " Nothing that the director knows of."),
        it.troubles_total > it.troubles.length ? h("p", { class: "about" }, `and ${it.troubles_total - it.troubles.length} more: see Destinations, sorted by state`) : null]);
      once(tallies, [it.services_by_state, it.destinations_by_state, it.checks_by_state], () => [
        h("h2", {}, "Services"), h("p", { class: "row" }, byState(it.services_by_state, ORDER, "#/services")),
        h("h2", {}, "Destinations"), h("p", { class: "row" }, byState(it.destinations_by_state, ORDER, "#/destinations")),
        Object.keys(it.checks_by_state).length ? [h("h2", {}, "Checks"), h("p", { class: "row" }, byState(it.checks_by_state, ORDER, "#/checks"))] : null]);
      once(interfaces, [it.interfaces.map(({ received, transmitted, ...rest }) => rest), it.interface_rates], () => [h("h2", {}, "Interfaces"),
        h("div", { class: "scroll" }, h("table", { "aria-label": "interfaces" }, h("thead", {}, h("tr", {}, ["State", "Name", "Datapath", "In", "Out", "Lost"].map((title, at) => h("th", { scope: "col", class: at > 2 ? "num" : at === 2 ? "c2" : null }, title)))),
          h("tbody", {}, it.interfaces.map((one, at) => {
            const now = it.interface_rates[at] ?? {};
            const lost = one.losses?.reduce((sum, of) => sum + of.received_dropped + of.received_errors + of.transmitted_dropped + of.transmitted_errors, 0) ?? 0;
            return h("tr", {}, h("td", {}, state(one.state)), h("td", { class: "name" }, one.name),
              h("td", { class: "c2", title: one.faster }, one.datapath.replace("_", " ")),
              h("td", { class: "num" }, words.bandwidth(now.received_bytes_per_s)), h("td", { class: "num" }, words.bandwidth(now.transmitted_bytes_per_s)),
              h("td", { class: "num" }, words.count(lost)));
          }))))]);
      const reasons = it.drops.filter((one) => one.frames).sort((a, b) => (it.drops_per_s[b.reason] - it.drops_per_s[a.reason]) || b.frames - a.frames).slice(0, 8);
      once(drops, [reasons, it.drops_per_s], () => [h("h2", {}, "Frames dropped"), reasons.length ? h("dl", { class: "pairs" }, reasons.map((one) => [
        h("dt", {}, one.reason.replaceAll("_", " ")), h("dd", {}, `${words.exact(one.frames)}${it.drops_per_s[one.reason] ? ` (${words.rate(it.drops_per_s[one.reason])})` : ""}`)]))
        : h("p", { class: "fine" }, "None.")]);
      const cache = it.flow_cache;
      const facts = [
        ["Configuration", it.config],
        ["Up for", words.duration(Math.floor(it.uptime_s / 60) * 60 || Math.floor(it.uptime_s / 10) * 10)],
        ["Version", `uvs ${it.version}, process ${it.pid}`],
        it.reload ? ["Reload", `${words.clock(it.reload.time)} by ${it.reload.by}: ${it.reload.outcome}, ${it.reload.changes} change${it.reload.changes === 1 ? "" : "s"}`] : null,
        it.by_hand_total ? ["By hand", `${it.by_hand_total} change${it.by_hand_total === 1 ? "" : "s"} that the next reload undoes`] : null,
        cache ? ["Flow cache", `${words.count(cache.flows)} flows, ${words.count(cache.packets)} packets past the director`] : null,
        ...it.not_accelerated.map((one) => [one.interface, `not accelerated: ${one.why}`]),
        it.limits_lowered ? ["Limits", it.limits_lowered] : null,
      ].filter(Boolean);
      once(about, [facts, it.by_hand], () => [h("h2", {}, "Director"), h("dl", { class: "pairs" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
        it.by_hand.length ? h("details", {}, h("summary", {}, "What was changed by hand"), h("ul", { class: "plainlist" }, it.by_hand.map((one) => h("li", {}, one)))) : null]);
    },
  };
}
