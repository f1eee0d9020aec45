// The way of packets: from clients through the director to real servers, and how their answers go back.
//
//   NAT   client --> director --> server      answers: the same way back, through the director
//   DR    client --> director --> server      answers: past the director
//   TUN   client --> director ==> server      answers: past the director; requests travel inside a tunnel

import { s } from "./dom.js";
import { bandwidth, count, method, rate } from "./words.js";

const ROW = 58;
const ROW_NARROW = 50;
const PAST = 30;

/** How fast dashes move: a period in seconds, faster with more; nothing moves where nothing happens. */
function period(perSecond) {
  if (!(perSecond > 0)) return 0;
  return Math.max(0.5, 3.2 - Math.log10(1 + perSecond) * 0.75);
}

function width(perSecond, most) {
  return perSecond > 0 && most > 0 ? 1.5 + 3.5 * Math.sqrt(perSecond / most) : 1.5;
}

function flow(path, kind, perSecond, thick, title) {
  const time = period(perSecond);
  const line = s("path", { d: path, class: `flow ${kind}${time ? " moves" : ""}` }, s("title", {}, title));
  line.style.setProperty("--period", `${time || 1}s`);
  line.style.strokeWidth = `${thick}px`;
  return line;
}

function node(x, y, w, hgt, kind, lines, attributes = {}) {
  const size = 17;
  const top = y + hgt / 2 - ((lines.length - 1) * size) / 2;
  return s(attributes.href ? "a" : "g", { class: `node ${kind}`, ...attributes },
    s("rect", { x, y, width: w, height: hgt, rx: 7 }),
    lines.map((line, at) => s("text", {
      x: x + w / 2, y: top + at * size, class: at ? "more" : "name", "text-anchor": "middle",
      "dominant-baseline": "central",
    }, fit(line, w - 6, (at ? 6.3 : 7.1) * (w < 120 ? 0.95 : 1)))));
}

/** A text that does not run out of its box. */
function fit(text, room, letter) {
  const most = Math.max(4, Math.floor(room / letter));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/**
 * Draws it. `ends` are the real servers, or groups of them: { name, more, method, state, connections, bytesIn,
 * bytesOut, href }. `director` and `clients` are lines of text.
 */
export function draw(ends, { room, director, clients, label }) {
  const narrow = room < 560;
  const wide = Math.max(300, room);
  const row = narrow ? ROW_NARROW : ROW;
  const past = ["dr", "tun"].filter((name) => ends.some((end) => end.method === name));
  const rows = Math.max(1, ends.length);
  const top = 8;
  const body = rows * row;
  const height = top + body + past.length * PAST + (past.length ? 14 : 0);
  const clientWidth = narrow ? 54 : 120;
  const directorWidth = narrow ? 74 : 170;
  const serverWidth = narrow ? 112 : Math.min(280, wide * 0.28);
  const serverX = wide - serverWidth - (past.length ? 10 + past.length * 8 : 2);
  const directorX = Math.round(clientWidth + (serverX - clientWidth - directorWidth) / 2);
  const middle = top + body / 2;
  const total = ends.reduce((sum, end) => sum + end.connections, 0);
  const most = Math.max(...ends.map((end) => end.connections), 0);
  const picture = s("svg", {
    class: narrow ? "map narrow" : "map", viewBox: `0 0 ${wide} ${height}`, width: wide, height, role: "img", "aria-label": label,
  }, s("defs", {}, ["request", "answer", "dr", "tun"].map((kind) => s("marker", {
    id: `arrow-${kind}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto",
    markerUnits: "userSpaceOnUse",
  }, s("path", { d: "M0 0.5L8 4L0 7.5z", class: `head ${kind}` })))));
  const lines = s("g", {});
  const texts = s("g", {});
  picture.append(lines);

  // Requests of all come in on one line.
  const hasNat = ends.some((end) => end.method === "nat");
  const natOut = ends.filter((end) => end.method === "nat").reduce((sum, end) => sum + end.bytesOut, 0);
  const bytesIn = ends.reduce((sum, end) => sum + end.bytesIn, 0);
  const apart = hasNat ? 9 : 0;
  lines.append(flow(`M${clientWidth} ${middle - apart}L${directorX - 3} ${middle - apart}`, "request", total,
    width(total, total), `requests: ${rate(total)}, ${bandwidth(bytesIn)}`));
  if (hasNat) {
    lines.append(flow(`M${directorX} ${middle + apart}L${clientWidth + 3} ${middle + apart}`, "answer", natOut && total,
      width(natOut, natOut), `answers: ${bandwidth(natOut)}`));
  }
  if (!narrow) {
    const at = (clientWidth + directorX) / 2;
    texts.append(s("text", { x: at, y: middle - apart - 9, class: "label", "text-anchor": "middle" },
      `${rate(total)} · ${bandwidth(bytesIn)}`));
    if (hasNat) {
      texts.append(s("text", { x: at, y: middle + apart + 17, class: "label", "text-anchor": "middle" },
        bandwidth(natOut)));
    }
  }

  ends.forEach((end, index) => {
    const y = top + index * row + row / 2;
    const from = directorX + directorWidth;
    const bend = from + (serverX - from) * 0.5;
    const curve = (y1, y2, back) => back
      ? `M${serverX} ${y2}C${bend} ${y2} ${bend} ${y1} ${from + 3} ${y1}`
      : `M${from} ${y1}C${bend} ${y1} ${bend} ${y2} ${serverX - 3} ${y2}`;
    const lean = (at) => middle + (at - middle) * 0.55;
    const thick = width(end.connections, most);
    const title = `${end.name}: ${rate(end.connections)}, ${bandwidth(end.bytesIn)} in`;
    const off = end.method === "nat" ? 7 : 0;
    if (end.method === "tun") {
      lines.append(s("path", { d: curve(lean(y), y), class: "tube" }));
    }
    lines.append(flow(curve(lean(y) - off, y - off), `request ${end.state}`, end.connections, thick, title));
    if (end.method === "nat") {
      lines.append(flow(curve(lean(y) + off, y + off, true), "answer", end.bytesOut && end.connections, thick,
        `${end.name}: answers ${bandwidth(end.bytesOut)}`));
    }
  });

  // Answers that the director does not see go round it.
  past.forEach((name, index) => {
    const mine = ends.map((end, at) => ({ end, at })).filter(({ end }) => end.method === name);
    const busy = mine.reduce((sum, { end }) => sum + end.connections, 0);
    // The outer one goes lower and further to the left: no two cross.
    const outer = past.length - 1 - index;
    const y = top + body + 24 + outer * PAST;
    const side = serverX + serverWidth + 8 + outer * 8;
    const ys = mine.map(({ at }) => top + at * row + row / 2);
    const clientX = clientWidth / 2 + (past.length > 1 ? 8 - outer * 16 : 0);
    for (const from of ys) {
      lines.append(flow(`M${serverX + serverWidth} ${from}L${side} ${from}`, name, busy, 1.5, ""));
    }
    lines.append(flow(
      `M${side} ${Math.min(...ys)}L${side} ${y - 6}Q${side} ${y} ${side - 6} ${y}L${clientX + 6} ${y}` +
      `Q${clientX} ${y} ${clientX} ${y - 6}L${clientX} ${top + body + 3}`,
      `${name} past`, busy, 2, `${method(name)}: answers go past the director`));
    texts.append(s("text", { x: directorX + directorWidth / 2, y: y - 6, class: "label", "text-anchor": "middle" },
      narrow ? `${method(name)} answers` : `${method(name)}: answers go straight to the client`));
  });

  picture.append(...[
    node(2, top, clientWidth - 2, body, "client", clients),
    node(directorX, top, directorWidth, body, "director", director),
    ends.map((end, index) => node(serverX, top + index * row + 5, serverWidth, row - 10, `server ${end.state}`,
      narrow ? [end.name, `${method(end.method)} · ${rate(end.connections)}`] : [end.name, end.more],
      end.href ? { href: end.href } : {})),
    texts,
  ].flat());
  return picture;
}

/** What the ways together do, for those who do not see the picture. */
export function inWords(ends) {
  return ends.map((end) => `${end.name}, ${method(end.method)}: ${count(end.connections)} connections a second`).join("; ");
}
