// The figures of the last minutes, and their charts.

import { make, svg, write } from "./elements.js";
import { bytes, moment, number, seconds } from "./words.js";

const SPAN = 300; // seconds that a chart shows
const HEIGHT = 56;
const SUMMED = ["bytesIn", "bytesOut", "accepted"];

// What was read of the last minutes, as one sample each time.
export class History {
  constructor() {
    this.samples = [];
  }

  add(status, now) {
    const sums = Object.fromEntries(
      SUMMED.map((name) => [name, status.pools.reduce((sum, each) => sum + (each[name] ?? 0), 0)]),
    );
    const before = this.samples.at(-1);
    const passed = before ? now - before.time : 0;
    // Totals that fell are those of another process, or a pool was removed.
    const rate = (name) =>
      before?.sums && passed > 0 && passed < 15 && sums[name] >= before.sums[name]
        ? (sums[name] - before.sums[name]) / passed
        : null;
    this.samples.push({
      time: now,
      sums,
      waiting: status.waiting,
      longest: status.oldestWait ?? 0,
      sessions: status.sessions,
      inward: rate("bytesIn"),
      outward: rate("bytesOut"),
      opened: rate("accepted"),
    });
    this.samples = this.samples.filter((each) => each.time > now - SPAN - 5);
  }

  // Leave a gap where nothing is known.
  gap(now) {
    if (this.samples.at(-1)?.sums) this.samples.push({ time: now, sums: null });
  }
}

class Chart {
  constructor(tile, title, text, lines) {
    this.text = text;
    this.lines = lines;
    this.title = title;
    this.big = make("span", "big");
    this.small = make("span", "small");
    this.chart = svg("svg", { viewBox: `0 0 ${SPAN} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.chart.classList.add("chart");
    this.paths = lines.map((each, index) => {
      const area = index ? null : svg("path", { class: "area" });
      const line = svg("path", { class: `line line-${index}`, "vector-effect": "non-scaling-stroke" });
      return { ...each, area, line };
    });
    this.cursor = svg("path", { class: "cursor", "vector-effect": "non-scaling-stroke" });
    this.chart.append(...this.paths.flatMap((each) => [each.area, each.line].filter(Boolean)), this.cursor);
    this.top = make("span");
    this.at = make("span");
    const scale = make("p", "scale");
    scale.setAttribute("aria-hidden", "true");
    scale.append(this.at, this.top);
    const figure = make("p", "figure");
    figure.append(this.big, this.small);
    const heading = make("h2", "", title);
    if (lines.length > 1) heading.append(make("span", "wide", " to ↓ and from ↑ clients"));
    tile.append(heading, figure, this.chart, scale);
    this.pointed = null;
    this.chart.addEventListener("pointermove", (event) => {
      const box = this.chart.getBoundingClientRect();
      this.pointed = ((event.clientX - box.left) / box.width) * SPAN;
      this.#point();
    });
    this.chart.addEventListener("pointerleave", () => {
      this.pointed = null;
      this.#point();
    });
  }

  draw(samples, now, highest) {
    this.samples = samples;
    this.now = now;
    const start = now - SPAN;
    let top = 0;
    for (const { name } of this.paths) {
      for (const each of samples) top = Math.max(top, each[name] ?? 0);
    }
    const scale = (HEIGHT - 4) / Math.max(top, this.lines[0].least);
    for (const { name, area, line } of this.paths) {
      let outline = "";
      let filled = "";
      let first = null;
      let x = 0;
      for (const each of samples) {
        const value = each[name] ?? null;
        if (value === null) {
          if (first !== null) filled += `L${x} ${HEIGHT}L${first} ${HEIGHT}Z`;
          first = null;
          continue;
        }
        x = (each.time - start).toFixed(1);
        const y = (HEIGHT - 2 - value * scale).toFixed(1);
        outline += `${first === null ? "M" : "L"}${x} ${y}`;
        filled += `${first === null ? "M" : "L"}${x} ${y}`;
        first ??= x;
      }
      if (first !== null) filled += `L${x} ${HEIGHT}L${first} ${HEIGHT}Z`;
      line.setAttribute("d", outline);
      area?.setAttribute("d", filled);
    }
    this.chart.setAttribute(
      "aria-label",
      `${this.title} over the last five minutes: highest ${this.text(top)}${highest ?? ""}`,
    );
    write(this.top, `max ${this.text(top)}`);
    this.#point();
  }

  // Show the figures at the place that is pointed at.
  #point() {
    const at = this.pointed === null ? null : this.now - SPAN + this.pointed;
    const near = at === null ? null : this.samples?.findLast((each) => each.time <= at);
    if (!near?.sums) {
      write(this.at, at === null ? "last 5 min" : "not known");
      this.cursor.setAttribute("d", "");
      return;
    }
    const values = this.paths
      .map(({ name, mark }) => `${mark ? `${mark} ` : ""}${near[name] === null ? "?" : this.text(near[name])}`)
      .join(" ");
    write(this.at, `${moment(near.time * 1000)}  ${values}`);
    this.cursor.setAttribute("d", `M${this.pointed} 0V${HEIGHT}`);
  }
}

// The four tiles.
export class Charts {
  constructor(find) {
    const rate = (value) => `${bytes(value)}/s`;
    const tile = (id, ...rest) => new Chart(find(`tile-${id}`), ...rest);
    this.waiting = tile("waiting", "Waiting clients", number, [{ name: "waiting", least: 1 }]);
    this.longest = tile("longest", "Longest wait", seconds, [{ name: "longest", least: 0.1 }]);
    this.sessions = tile("sessions", "Sessions", number, [{ name: "sessions", least: 1 }]);
    this.traffic = tile("traffic", "Traffic", rate, [
      { name: "outward", least: 1000, mark: "↓" },
      { name: "inward", least: 1000, mark: "↑" },
    ]);
  }

  draw(history, status, now) {
    const { samples } = history;
    const last = samples.at(-1) ?? {};
    const every = [this.waiting, this.longest, this.sessions, this.traffic];
    for (const each of every) each.draw(samples, now);
    if (!status || !last.sums) {
      for (const each of every) {
        write(each.big, "?");
        write(each.small, "");
      }
      return;
    }
    write(this.waiting.big, number(status.waiting));
    const missing = status.pools.reduce((sum, each) => sum + (each.slotsMissing ?? 0), 0);
    write(this.waiting.small, missing ? `${number(missing)} slots missing` : "");
    write(this.longest.big, status.waiting ? seconds(status.oldestWait ?? 0) : "–");
    write(this.longest.small, status.waiting ? "" : "nobody waits");
    write(this.sessions.big, number(status.sessions));
    write(this.sessions.small, last.opened === null ? "" : `${number(Math.round(last.opened))} new/s`);
    write(this.traffic.big, last.outward === null ? "–" : `↓ ${bytes(last.outward)}/s`);
    write(this.traffic.small, last.inward === null ? "" : `↑ ${bytes(last.inward)}/s`);
  }
}
