// The pools and their destinations: which are up, and how full each is.

import { arrange, icon, make, set, show, write } from "./elements.js";
import { address, ago, bytes, count, fill, moment, number, reason, refused, waits } from "./words.js";

const ROWS = 100; // destinations of a pool that are shown at first
const CELLS = 24; // slots that are drawn one by one
const ICONS = { closing: "draining", standby: "paused", asleep: "paused", waking: "draining" };
const COLUMNS = ["Destination", "State", "Slots in use", "Traffic", "Served", "Errors"];
const STATES = {
  up: "Up",
  down: "Down",
  paused: "Paused",
  draining: "Draining",
  standby: "Standby",
  asleep: "Asleep",
  waking: "Waking",
  stopped: "Stopped",
  closing: "Closing",
};

function withRole(tag, role, className = "") {
  // On a phone the table is laid out as cards, which would take its meaning away.
  const element = make(tag, className);
  element.setAttribute("role", role);
  return element;
}

// How full something is: a cell for each slot, or a bar if there are many.
class Bar {
  constructor() {
    this.element = make("span", "bar");
    this.element.setAttribute("aria-hidden", "true");
    this.part = make("i");
    this.element.append(this.part);
    this.seen = "";
  }

  update(active, slots) {
    const seen = `${active}/${slots}`;
    if (seen === this.seen) return;
    this.seen = seen;
    const { classList, style } = this.element;
    classList.toggle("open", !slots);
    classList.toggle("cells", slots > 0 && slots <= CELLS);
    classList.toggle("full", slots > 0 && active >= slots);
    style.setProperty("--slots", slots || 1);
    this.part.style.transform = `scaleX(${slots ? Math.min(active / slots, 1) : 0})`;
  }
}

// A state: an icon and a word.
class State {
  constructor() {
    this.element = make("span", "state");
    this.word = make("span");
    this.element.append(icon("unknown"), this.word);
  }

  update(state) {
    if (this.element.dataset.state === state) return;
    this.element.dataset.state = state;
    const known = Object.hasOwn(STATES, state);
    const name = ICONS[state] ?? (known ? state : "unknown");
    this.element.querySelector("use").setAttribute("href", `#i-${name}`);
    write(this.word, known ? STATES[state] : state);
  }
}

function button(text, act) {
  const element = make("button", "quiet", text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

function name(element, text, target) {
  write(element, text);
  set(element, "aria-label", `${text} ${target}`);
}

class Row {
  constructor(actions) {
    this.element = withRole("tr", "row", "row");
    const cells = COLUMNS.map((column, index) => {
      const cell = index ? withRole("td", "cell") : withRole("th", "rowheader");
      cell.classList.add(["name", "standing", "use", "figure", "figure", "figure"][index]);
      if (index > 2) cell.dataset.label = column;
      return cell;
    });
    cells[0].scope = "row";
    this.title = make("bdi", "title");
    this.address = make("bdi", "address");
    this.changed = make("span", "changed");
    cells[0].append(this.title, this.address, this.changed);
    this.state = new State();
    this.since = make("span", "since");
    this.why = make("bdi", "why");
    cells[1].append(this.state.element, this.since, this.why);
    this.bar = new Bar();
    this.fill = make("span", "fill");
    cells[2].append(this.bar.element, this.fill);
    [, , , this.traffic, this.served, this.failed] = cells;
    this.pause = button("", () => {
      const { state } = this.destination;
      actions[state === "paused" || state === "draining" ? "resume" : "pause"](this.destination);
    });
    this.drain = button("", () => {
      if (this.destination.state !== "draining") actions.drain(this.destination);
    });
    this.slots = button("", () => actions.setSlots(this.destination));
    this.acts = withRole("td", "cell", "acts");
    this.acts.append(this.pause, this.drain, this.slots);
    this.element.append(...cells, this.acts);
  }

  update(destination, passed, mayAct) {
    const before = this.destination;
    this.destination = destination;
    const { state, active, slots } = destination;
    const held = state === "paused" || state === "draining";
    write(this.title, destination.name);
    const place = address(destination.address);
    write(this.address, place === destination.name ? "" : place);
    write(this.changed, differs(destination.changed));
    this.state.update(state);
    write(this.since, destination.since ? `for ${ago(destination.since)}` : "");
    set(this.since, "title", destination.since ? `since ${moment(destination.since)}` : "");
    const { check, limit } = destination;
    const failed = check && !check.passed ? `last check: ${check.why}` : "";
    write(this.why, reason(destination.why || failed));
    const seen = check ? `last check, ${ago(check.at)} ago: ${check.why}` : "";
    set(this.state.element, "title", seen);
    const most = limit ?? slots; // fewer during a slow start, or as an agent asks
    this.bar.update(active, most);
    write(this.fill, `${fill(active, most)}${most && active >= most ? ", full" : ""}`);
    const sum = destination.bytesIn + destination.bytesOut;
    const earlier = before ? before.bytesIn + before.bytesOut : sum;
    const rate = before && passed > 0 && sum >= earlier ? (sum - earlier) / passed : 0;
    write(this.traffic, `${bytes(rate)}/s`);
    write(this.served, number(destination.served));
    write(this.failed, number(destination.errors ?? 0));
    this.failed.classList.toggle("some", state === "down" && destination.errors > 0);
    show(this.acts, mayAct);
    const target = `${destination.pool}/${destination.name}`;
    name(this.pause, held ? "Resume" : "Pause", target);
    name(this.drain, "Drain", target);
    name(this.slots, "Slots", target);
    // Not "disabled", which would take the focus away from who has just pressed it.
    set(this.drain, "aria-disabled", String(state === "draining"));
  }
}

class Section {
  constructor(pool, actions) {
    this.actions = actions;
    this.rows = new Map();
    this.all = false;
    this.element = make("section", "pool card");
    this.title = make("h3");
    this.title.append(make("bdi", "", pool.name));
    this.element.setAttribute("aria-label", `Pool ${pool.name}`);
    this.state = new State();
    this.facts = make("p", "facts");
    this.pause = button("", () => {
      const held = this.pool.state === "paused" || this.pool.paused || this.pool.state === "stopped";
      actions[held ? "resume" : "pause"](this.pool);
    });
    this.slots = button("", () => actions.setSlots(this.pool));
    this.buttons = make("div", "buttons");
    this.buttons.append(this.pause, this.slots);
    const head = make("header", "pool-head");
    head.append(this.title, this.state.element, this.facts, this.buttons);
    this.table = withRole("table", "table", "rows");
    this.table.setAttribute("aria-label", `Destinations of ${pool.name}`);
    const header = withRole("tr", "row");
    for (const [index, column] of COLUMNS.entries()) {
      const cell = withRole("th", "columnheader", index > 2 ? "figure" : "");
      cell.scope = "col";
      cell.textContent = column;
      header.append(cell);
    }
    this.actsHead = withRole("th", "columnheader", "acts");
    this.actsHead.scope = "col";
    this.actsHead.append(make("span", "unseen", "Change"));
    header.append(this.actsHead);
    const top = withRole("thead", "rowgroup");
    top.append(header);
    this.body = withRole("tbody", "rowgroup");
    this.table.append(top, this.body);
    this.more = button("", () => {
      this.all = !this.all;
      this.update(this.pool, this.matching, 0, this.mayAct);
    });
    this.more.classList.add("more");
    this.element.append(head, this.table, this.more);
  }

  update(pool, matching, passed, mayAct) {
    Object.assign(this, { pool, matching, mayAct });
    this.state.update(pool.paused && pool.state === "up" ? "paused" : pool.state);
    write(this.facts, this.#facts(pool));
    const held = pool.state === "paused" || pool.paused || pool.state === "stopped";
    show(this.buttons, mayAct);
    name(this.pause, held ? "Resume" : "Pause", `pool ${pool.name}`);
    name(this.slots, "Slots", `of pool ${pool.name}`);
    let shown = matching;
    if (matching.length > ROWS && !this.all) {
      // Those that are not up are not among the ones left out.
      const up = (each) => each.state === "up";
      shown = [...matching.filter((each) => !up(each)), ...matching.filter(up)].slice(0, ROWS);
    }
    const rows = shown.map((destination) => {
      const row = this.rows.get(destination.name) ?? new Row(this.actions);
      row.update(destination, passed, mayAct);
      return [destination.name, row];
    });
    this.rows = new Map(rows);
    arrange(this.body, rows.map(([, row]) => row.element));
    show(this.table, rows.length > 0);
    show(this.actsHead, mayAct);
    show(this.more, matching.length > ROWS);
    write(this.more, this.all ? `Show ${ROWS} of them` : `Show all ${number(matching.length)}`);
    // The height that the browser reserves while the pool is out of sight.
    this.element.style.setProperty("--rows", rows.length);
  }

  #facts(pool) {
    const addresses = (pool.listeners ?? []).map((each) =>
      each.state === "listening" ? each.address : `${each.address} (${each.state})`,
    );
    const limit = pool.slots ? `${fill(pool.active, pool.slots)} slots in use` : "";
    return [
      addresses.join(", "),
      pool.policy && `policy ${pool.policy}`,
      limit,
      pool.waiting ? waits(pool.waiting, pool.oldestWait) : "",
      pool.delayed ? `${count(pool.delayed, "client")} delayed by limits` : "",
      `${count(pool.accepted, "client")} since the start`,
      refused(pool.refused),
      differs(pool.changed),
    ]
      .filter(Boolean)
      .join(" · ");
  }
}

export class Pools {
  constructor(find, actions) {
    this.actions = actions;
    this.holder = find("pools");
    this.counted = find("count");
    this.filter = find("filter");
    this.text = find("filter-text");
    this.wanted = find("filter-state");
    this.sections = new Map();
    const again = () => this.status && this.draw(this.status, 0, this.mayAct);
    this.text.addEventListener("input", again);
    this.wanted.addEventListener("change", again);
  }

  draw(status, passed, mayAct) {
    Object.assign(this, { status, mayAct });
    const { pools } = status;
    const text = this.text.value.trim().toLowerCase();
    const wanted = this.wanted.value;
    const filtered = Boolean(text || wanted);
    const every = pools.reduce((sum, each) => sum + each.destinations.length, 0);
    show(this.filter, every > 8 || filtered);
    let matched = 0;
    const sections = [];
    for (const pool of pools) {
      const whole = !wanted && pool.name.toLowerCase().includes(text);
      const matching = pool.destinations.filter(
        (each) => inState(each, wanted) && (whole || !text || named(each, text)),
      );
      matched += matching.length;
      if (filtered && !matching.length && !whole) continue;
      const section = this.sections.get(pool.name) ?? new Section(pool, this.actions);
      section.update(pool, matching, passed, mayAct);
      sections.push([pool.name, section]);
    }
    this.sections = new Map(sections);
    arrange(this.holder, sections.map(([, section]) => section.element));
    const inPools = pools.length > 1 ? ` in ${count(pools.length, "pool")}` : "";
    const up = `${number(status.destinationsUp)} of ${number(every)} up${inPools}`;
    write(this.counted, filtered ? `${number(matched)} of ${number(every)} shown` : up);
  }
}

// What was changed while the balancer ran, and is not as in its file.
function differs(changed) {
  return changed?.length ? `not as in the file: ${changed.join(", ")}` : "";
}

function named(destination, text) {
  const { pool, name: own, address } = destination;
  return `${pool}/${own} ${address}`.toLowerCase().includes(text);
}

function inState({ state, active, slots }, wanted) {
  if (!wanted) return true;
  if (wanted === "not-up") return state !== "up";
  if (wanted === "full") return slots > 0 && active >= slots;
  return state === wanted;
}
