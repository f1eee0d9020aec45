// A table that the director sorts, filters and cuts: however many rows there are, one page of them is here.

import { h, put, say } from "./dom.js";
import { exact } from "./words.js";

const PAGE = 50;

/**
 * `columns`: { key, title, sort, kind, make(row) -> { node, show(row) } }. `ask(query)` gives { found, rows };
 * `key(row)` names a row; `open(row)` is what Enter and a click do.
 */
export class Table {
  constructor({ label, columns, ask, key, open, sort, descending = false, empty, filter = "" }) {
    Object.assign(this, { columns, ask, key, open, empty });
    this.query = { filter, sort, descending, offset: 0, limit: PAGE };
    this.lines = new Map();
    this.asked = 0;
    this.filter = h("input", {
      type: "search", class: "filter", placeholder: "Filter  ( / )", "aria-label": `Filter ${label}`, value: filter,
      spellcheck: "false", autocomplete: "off", oninput: () => this.find(),
    });
    this.count = h("span", { class: "count", role: "status" });
    this.before = h("button", { type: "button", "aria-label": "Page before (p)", title: "p", onclick: () => this.turn(-1) }, "‹");
    this.after = h("button", { type: "button", "aria-label": "Next page (n)", title: "n", onclick: () => this.turn(1) }, "›");
    this.heads = columns.map((column) => this.head(column));
    this.body = h("tbody", { onkeydown: (event) => this.pressed(event) });
    this.table = h("table", { "aria-label": label, class: `cols-${columns.length}` },
      h("thead", {}, h("tr", {}, this.heads)), this.body);
    this.none = h("p", { class: "none", hidden: true });
    this.element = h("div", { class: "listing" },
      h("div", { class: "bar" }, this.filter, h("span", { class: "gap" }), this.count, this.before, this.after),
      h("div", { class: "scroll" }, this.table), this.none);
  }

  head(column) {
    const attributes = { scope: "col", class: column.kind };
    if (!column.sort) return h("th", attributes, column.title);
    return h("th", attributes, h("button", { type: "button", onclick: () => this.sortBy(column) }, column.title));
  }

  sortBy({ sort, kind }) {
    const again = this.query.sort === sort;
    // Of numbers the greatest are wanted first.
    this.query.descending = again ? !this.query.descending : Boolean(kind?.includes("num"));
    this.query.sort = sort;
    this.query.offset = 0;
    return this.refresh();
  }

  find() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      this.query.filter = this.filter.value;
      this.query.offset = 0;
      this.refresh();
    }, 150);
  }

  turn(by) {
    const offset = this.query.offset + by * PAGE;
    if (offset < 0 || (by > 0 && offset >= this.found)) return;
    this.query.offset = offset;
    this.refresh().then(() => this.element.querySelector(".scroll").scrollTo(0, 0));
  }

  async refresh() {
    const asked = (this.asked += 1);
    const { found, rows } = await this.ask(this.query);
    // An answer that another question has overtaken is not shown.
    if (asked !== this.asked) return;
    this.found = found;
    if (rows.length === 0 && found > 0) {
      this.query.offset = Math.floor((found - 1) / PAGE) * PAGE;
      return this.refresh();
    }
    this.show(rows);
  }

  show(rows) {
    const lines = new Map();
    for (const row of rows) {
      const key = this.key(row);
      const line = this.lines.get(key) ?? this.line();
      line.row = row;
      for (const cell of line.cells) cell.show(row);
      lines.set(key, line);
    }
    this.lines = lines;
    const wanted = [...lines.values()].map((line) => line.element);
    // Rows that stay are not moved: a row keeps its focus.
    if (wanted.length !== this.body.children.length || wanted.some((it, at) => it !== this.body.children[at])) {
      const focused = document.activeElement;
      this.body.replaceChildren(...wanted);
      if (focused?.closest?.("tbody") === this.body) focused.focus({ preventScroll: true });
    }
    if (!wanted.some((element) => element.tabIndex === 0) && wanted[0]) wanted[0].tabIndex = 0;
    const { offset, filter, sort, descending } = this.query;
    const last = offset + rows.length;
    say(this.count, this.found ? `${exact(offset + 1)}–${exact(last)} of ${exact(this.found)}` : "");
    this.before.disabled = offset === 0;
    this.after.disabled = last >= this.found;
    this.none.hidden = this.found > 0;
    this.table.hidden = this.found === 0;
    say(this.none, filter ? `Nothing matches “${filter}”.` : this.empty);
    this.columns.forEach((column, at) => {
      const order = column.sort && column.sort === sort ? (descending ? "descending" : "ascending") : null;
      if (order) this.heads[at].setAttribute("aria-sort", order);
      else this.heads[at].removeAttribute("aria-sort");
    });
  }

  line() {
    const cells = this.columns.map((column) => ({ ...column.make(), kind: column.kind, title: column.title }));
    const line = { cells };
    const opens = this.open ? { onclick: (event) => this.clicked(event, line) } : {};
    line.element = h("tr", { tabindex: "-1", class: this.open ? "opens" : null, ...opens },
      cells.map((cell) => h("td", { class: cell.kind, "data-title": cell.title }, cell.node)));
    return line;
  }

  clicked(event, line) {
    if (event.target.closest("a, button") || String(getSelection())) return;
    this.open(line.row);
  }

  /** Whether a key was for the rows. */
  pressed(event) {
    const line = event.target.closest("tr");
    const to = { ArrowDown: "nextElementSibling", j: "nextElementSibling", ArrowUp: "previousElementSibling", k: "previousElementSibling" };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (to[event.key]) {
      this.focus(line[to[event.key]]);
      event.preventDefault();
    } else if (event.key === "Home" || event.key === "End") {
      this.focus(event.key === "Home" ? this.body.firstElementChild : this.body.lastElementChild);
      event.preventDefault();
    } else if (event.key === "Enter" && event.target === line && this.open) {
      const known = [...this.lines.values()].find((it) => it.element === line);
      this.open(known.row);
      event.preventDefault();
    }
  }

  focus(element) {
    if (!element) return;
    for (const it of this.body.children) it.tabIndex = -1;
    element.tabIndex = 0;
    element.focus();
  }

  /** The row that is the keyboard's. */
  focusFirst() {
    this.focus(this.body.querySelector('[tabindex="0"]') ?? this.body.firstElementChild);
  }
}

/** A cell of text. */
export function text(of, attributes) {
  return () => {
    const node = h("span", attributes);
    return { node, show: (row) => say(node, of(row)) };
  };
}

/** A cell that is made anew when what it shows has changed. */
export function made(of, key = (row) => JSON.stringify(row)) {
  return () => {
    const node = h("span", { class: "made" });
    let shown;
    return {
      node,
      show(row) {
        const now = key(row);
        if (now === shown) return;
        shown = now;
        put(node, of(row));
      },
    };
  };
}
