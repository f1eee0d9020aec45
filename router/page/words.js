// Numbers, times and names as people read them.

const UNITS = ["", "k", "M", "G", "T", "P"];

function scaled(value, step) {
  let unit = 0;
  while (Math.abs(value) >= step && unit < UNITS.length - 1) {
    value /= step;
    unit += 1;
  }
  const digits = unit === 0 ? (value > 0 && value < 10 && value % 1 ? 1 : 0) : value < 10 ? 2 : value < 100 ? 1 : 0;
  return [value.toFixed(digits), UNITS[unit]];
}

/** 12,345: exact. */
export function exact(value) {
  return Math.round(value ?? 0).toLocaleString("en-GB");
}

/** 12.3k: enough for a glance. */
export function count(value) {
  if (Math.abs(value) < 10000 && value % 1 === 0) return exact(value);
  const [number, unit] = scaled(value, 1000);
  return number + unit;
}

/** A rate, as in 12.3k/s; a dash for none. */
export function rate(value) {
  return value ? `${count(value)}/s` : "–";
}

/** Bytes in a second as 1.2 MB/s; a dash for none. */
export function bandwidth(value) {
  if (!value) return "–";
  const [number, unit] = scaled(value, 1000);
  return `${number} ${unit}B/s`;
}

/** Seconds as 1.2 s, 3 min 5 s, 2 h 4 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === undefined || seconds === null) return "–";
  if (seconds < 0.001) return `${Math.max(0, Math.round(seconds * 1e6))} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([length]) => whole >= length);
  const [length, unit] = parts[first];
  const next = parts[first + 1];
  const rest = next ? Math.floor((whole % length) / next[0]) : 0;
  return `${Math.floor(whole / length)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

/** Nanoseconds. */
export function nanos(value) {
  if (value === undefined || value === null) return "–";
  if (value < 1000) return `${Math.round(value)} ns`;
  return value < 1e4 ? `${(value / 1000).toFixed(1)} µs` : duration(value / 1e9);
}

/** A share of a whole, in per cent. */
export function percent(part, whole) {
  if (!whole) return "–";
  const share = (100 * part) / whole;
  return share > 0 && share < 0.1 ? "<0.1 %" : `${share.toFixed(share < 10 || (share > 99 && share < 100) ? 1 : 0)} %`;
}

/** A time of the day here, and the day if it is another one. */
export function clock(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return text;
  const day = time.toDateString() === new Date().toDateString() ? "" : `${time.toLocaleDateString("en-CA")} `;
  return day + time.toLocaleTimeString("en-GB");
}

/** The ways of forwarding. */
export const METHODS = {
  nat: { name: "NAT", long: "network address translation", answers: "answers come back through the director" },
  dr: { name: "DR", long: "direct routing", answers: "answers go straight to the client" },
  tun: { name: "TUN", long: "tunnelling", answers: "answers go straight to the client" },
};

export function method(name) {
  return METHODS[name]?.name ?? name;
}

const EVENTS = {
  ready: ["the director is ready", "up"],
  stopping: ["the director stops", "degraded"],
  check_up: ["check is up", "up"],
  check_down: ["check is down", "down"],
  check_unmade: ["check cannot be made", "degraded"],
  check_unchecked: ["check has no result", "unchecked"],
  check_overdue: ["check gave no result in time", "degraded"],
  certificate: ["certificate expires soon", "degraded"],
  destination_up: ["in service", "up"],
  destination_down: ["out of service", "down"],
  destination_held: ["held out of service", "held"],
  quorum_up: ["quorum held", "up"],
  quorum_down: ["quorum lost", "down"],
  backup_up: ["backups serve", "degraded"],
  backup_down: ["backups serve no longer", "up"],
  weight: ["weight", "idle"],
  weight_mended: ["weight mended", "idle"],
  reloaded: ["configuration reloaded", "up"],
  reload_failed: ["reload failed", "down"],
  notified: ["program was told", "idle"],
  notify_failed: ["program could not be told", "degraded"],
  notify_dropped: ["programs are told too slowly", "degraded"],
};

/** What an event says, and which state that is. */
export function event(it) {
  const [words, shown] = EVENTS[it.type] ?? [it.type.replaceAll("_", " "), "idle"];
  const more = [];
  if (it.type === "weight" || it.type === "weight_mended") {
    more.push(`${it.weight ?? "?"}${it.of === undefined ? "" : `, before ${it.of}`}`);
  } else if (it.weight !== undefined && it.of !== undefined) {
    more.push(`${it.weight} of ${it.of}`);
  }
  return { words: [words, ...more].join(" "), state: shown };
}
