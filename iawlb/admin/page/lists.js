// The clients that wait longest, and the recent events.

import { arrange, make, show, write } from "./elements.js";
import { address, moment, number, reason, seconds } from "./words.js";

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
    const kind = String(event.type ?? "");
    // What was changed is an event of its own; the audit line is for the log.
    if (kind === "audit") return;
    const entry = make("li");
    const time = make("time", "", event.time ? moment(event.time) : "");
    if (event.time) time.dateTime = event.time;
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

const PHRASES = {
  "destination-added": "was added",
  "destination-down": "is down",
  "destination-up": "is up",
  "destination-paused": "was paused",
  "destination-resumed": "was resumed",
  "destination-draining": "is draining",
  "destination-withdrawn": "asks for no more clients",
  "destination-returned": "asks for clients again",
  "destination-on-standby": "is on standby",
  "destination-needed": "is needed",
  "destination-asleep": "sleeps",
  "destination-waking": "is waking",
  "destination-awake": "is awake",
  "destination-drained": "has no session left",
  "destination-removed": "was removed",
  "destination-changed": "was changed",
  "listener-listening": "accepts clients",
  "listener-refusing": "refuses clients",
  "listener-closed": "was closed",
  "pool-added": "was added",
  "pool-changed": "was changed",
  "pool-paused": "was paused",
  "pool-resumed": "was resumed",
  "pool-stopped": "refuses clients",
  "pool-drained": "has no session left",
  "pool-removed": "was removed",
  reload: "The configuration was read again",
  "reload-failed": "The configuration could not be read",
  "session-killed": "A session was closed",
  "log-dropped": "Log lines could not be written",
  stopping: "The balancer stops",
};

function looksLikeAddress(text) {
  return /^(tcp|tcp6|unix|tls|ssl):/.test(text ?? "");
}

function describe(event, kind) {
  if (event.lost) return `${number(event.lost)} events more, which are not known here`;
  const { pool, destination, listener, by } = event;
  const known = Object.hasOwn(PHRASES, kind) ? PHRASES[kind] : kind.replaceAll("-", " ");
  let object = "";
  // The text of most events of a destination is its address.
  let text = kind === "destination-down" ? reason(event.text) : event.text;
  if (destination) {
    object = pool ? `${pool}/${destination}` : destination;
    if (kind === "destination-added") text = address(text);
    else if (looksLikeAddress(text)) text = "";
  } else if (listener) {
    object = listener;
    if (text === listener) text = "";
  } else if (pool) {
    object = `Pool ${pool}`;
  }
  const said = [object, known].filter(Boolean).join(" ");
  return `${said}${text ? `: ${text}` : ""}${by ? `, by ${by}` : ""}`;
}
