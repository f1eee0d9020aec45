// Small pictures of numbers over time.

import { s } from "./dom.js";

const WIDTH = 96;
const HEIGHT = 20;
const SAMPLES = 60;

/** A line of the latest rates; the newest at the right, whatever there is of them. */
export function sparkline(label) {
  const area = s("path", { class: "area" });
  const line = s("path", { class: "line" });
  const picture = s("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, preserveAspectRatio: "none",
    role: "img", "aria-label": label,
  }, area, line);
  let shown = "";
  return {
    picture,
    show(values = []) {
      const key = values.join();
      if (key === shown) return;
      shown = key;
      const recent = values.slice(-SAMPLES);
      const top = Math.max(1e-9, ...recent);
      const step = WIDTH / (SAMPLES - 1);
      const left = WIDTH - (recent.length - 1) * step;
      const x = (at) => (left + at * step).toFixed(1);
      const y = (value) => (HEIGHT - 1.5 - (value / top) * (HEIGHT - 3)).toFixed(1);
      const points = recent.map((value, at) => `${x(at)} ${y(value)}`);
      const drawn = points.length > 2 && top > 1e-9;
      line.setAttribute("d", drawn ? `M${points.join("L")}` : "");
      area.setAttribute("d", drawn ? `M${x(0)} ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}Z` : "");
    },
  };
}
