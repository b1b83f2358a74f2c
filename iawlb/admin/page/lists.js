// The clients that wait longest, and the recent events.

import { arrange, make, show, write } from "./elements.js";
import { moment, number, seconds } from "./words.js";

const EVENTS = 60;

export class Waiters {
  constructor(find) {
    this.table = find("waiters");
    this.body = this.table.querySelector("tbody");
    this.empty = find("no-waiters");
    this.rows = new Map();
  }

  draw(sessions) {
    const rows = sessions.map((each) => {
      const row = this.rows.get(each.id) ?? this.#row();
      const texts = [each.client, each.pool, seconds(each.waited ?? each.age), number(each.tries ?? 0)];
      for (const [index, text] of texts.entries()) write(row.children[index].firstChild, text ?? "?");
      return [each.id, row];
    });
    this.rows = new Map(rows);
    arrange(this.body, rows.map(([, row]) => row));
    show(this.table, rows.length > 0);
    show(this.empty, rows.length === 0);
  }

  #row() {
    const row = make("tr");
    for (const [index, className] of ["", "", "number", "number"].entries()) {
      const cell = make(index ? "td" : "th", className);
      if (!index) cell.scope = "row";
      cell.append(make("bdi"));
      row.append(cell);
    }
    return row;
  }
}

export class Events {
  constructor(find) {
    this.list = find("events");
    this.empty = find("no-events");
    this.seen = 0;
  }

  add(event) {
    const entry = make("li");
    const time = make("time", "", event.time ? moment(event.time) : "");
    if (event.time) time.dateTime = event.time;
    const kind = String(event.type ?? "");
    entry.dataset.kind = /-(down|failed|refusing|closed|dropped|killed)$|^stopping$/.test(kind)
      ? "bad"
      : /-(paused|stopped|draining|removed)$/.test(kind) ? "held" : "";
    entry.append(time, make("bdi", "", describe(event, kind)));
    this.list.prepend(entry);
    while (this.list.children.length > EVENTS) this.list.lastElementChild.remove();
    show(this.list, true);
    show(this.empty, false);
  }
}

function describe(event, kind) {
  if (event.lost) return `${number(event.lost)} events more, which are not known here`;
  const { pool, destination, listener, text, by } = event;
  const object = destination ? `${pool ? `${pool}/` : ""}${destination}` : (listener ?? pool ?? "");
  const said = text || [object, kind.replaceAll("-", " ")].filter(Boolean).join(": ");
  return by && !said.includes(by) ? `${said} (${by})` : said;
}
