// What the page says: figures, times, and whether all is well. No elements here.

const whole = new Intl.NumberFormat("en");
const clockTime = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const dayTime = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const UNITS = ["", "k", "M", "G", "T", "P"];

// A wait of one client from which the page says that clients wait long, in seconds.
const LONG = 10;

// The time before a certificate expires from which the page says so, in days. Most are
// renewed a month before.
const SOON = 14;

export function number(value) {
  return value < 1e6 ? whole.format(value) : scaled(value, " ");
}

function scaled(value, space) {
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = value < 9.95 && (unit || value % 1) ? 1 : 0;
  return `${value.toFixed(digits)}${space}${UNITS[unit]}`;
}

export function bytes(value) {
  return `${scaled(value, " ")}B`;
}

export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

export function seconds(value) {
  if (value < 0.0995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 99.5) return `${Math.round(value)} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.round(value / 3600);
  return hours < 48 ? `${hours} h` : `${Math.round(value / 86400)} days`;
}

// A moment, as the clock shows it; with the date if it was on another day.
export function moment(when) {
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return String(when);
  const today = date.toDateString() === new Date().toDateString();
  return (today ? clockTime : dayTime).format(date);
}

export function ago(when) {
  const passed = (Date.now() - new Date(when).getTime()) / 1000;
  return Number.isNaN(passed) ? "" : seconds(Math.max(Math.round(passed), 1));
}

// Why a destination is down, without what stands around the reason.
export function reason(why) {
  return (why ?? "").replace(/^.*: \d+: /, "").replace(/\.+$/, "");
}

// An address without what goes without saying.
export function address(text) {
  return (text ?? "").replace(/^tcp:(?=[^:]+:\d+$)/, "");
}

export function fill(active, slots) {
  if (!slots) return `${number(active)}, no limit`;
  return `${number(active)} of ${number(slots)}`;
}

// How many clients were refused, for whatever reason.
export function refused(counts) {
  const all = Object.values(counts ?? {}).reduce((sum, each) => sum + each, 0);
  return all ? `${number(all)} refused` : "";
}

export function waits(waiting, oldest) {
  if (!waiting) return "Nobody waits";
  if (waiting === 1) return `1 client waits, for ${seconds(oldest ?? 0)}`;
  return `${number(waiting)} clients wait, the longest for ${seconds(oldest ?? 0)}`;
}

// Say whether all is well: { level, headline, summary, notes }. The worst comes first.
export function assess(status) {
  const found = [];
  const bad = (text) => found.push({ level: "bad", text });
  const warn = (text) => found.push({ level: "warn", text });
  const note = (text) => found.push({ level: "note", text });
  const stopping = status.state === "stopping";
  if (stopping) warn(`The balancer is stopping: ${count(status.sessions, "session")} left.`);
  for (const pool of status.pools) assessPool(pool, status.waiting, bad, warn, note);
  if (!stopping && status.accepting === false) {
    bad(`No more clients are accepted: ${count(status.maxConnections, "connection")} at most.`);
  }
  if (status.waiting && status.oldestWait >= LONG && !found.some(isPause)) {
    const missing = status.pools.reduce((sum, each) => sum + (each.slotsMissing ?? 0), 0);
    const more = missing ? ` ${count(missing, "more slot")} would serve all.` : "";
    warn(`${waits(status.waiting, status.oldestWait)}.${more}`);
  }
  if (status.reload?.successful === false) {
    const why = status.reload.messages?.[0];
    warn(`The last reload failed${why ? `: ${why}` : ""}. What was read before stays in use.`);
  }
  if (status.log?.dropped) note(`${count(status.log.dropped, "log line")} could not be written.`);
  if (status.ready === false && !found.some((each) => each.level !== "note")) {
    warn(status.why ?? "The balancer is not ready.");
  }
  const order = ["bad", "warn", "note"];
  found.sort((one, other) => order.indexOf(one.level) - order.indexOf(other.level));
  const worst = found[0]?.level ?? "note";
  const [first, ...rest] = worst === "note" ? [{ text: "All is well." }, ...found] : found;
  return {
    level: worst === "note" ? "good" : worst,
    headline: first.text,
    summary: `${destinations(status)} ${waits(status.waiting, status.oldestWait)}.`,
    notes: rest,
  };
}

function isPause(found) {
  return found.text.includes(" is paused");
}

function destinations(status) {
  const all = status.destinations;
  if (!all) return "There are no destinations.";
  if (status.destinationsUp < all) {
    const verb = status.destinationsUp === 1 ? "is" : "are";
    return `${number(status.destinationsUp)} of ${number(all)} destinations ${verb} up.`;
  }
  return all === 1 ? "The destination is up." : `All ${number(all)} destinations are up.`;
}

function assessPool(pool, all, bad, warn, note) {
  const every = pool.destinations;
  const down = every.filter((each) => each.state === "down");
  // Where all wait in one pool, the summary says so.
  const wait = pool.waiting && pool.waiting !== all ? ` ${waits(pool.waiting, pool.oldestWait)}.` : "";
  if (pool.state === "closing") {
    note(`Pool ${pool.name} is being removed: ${count(pool.sessions, "session")} left.`);
  } else if (pool.state === "stopped") {
    warn(`Pool ${pool.name} is stopped: its clients are refused.`);
  } else if (pool.paused || pool.state === "paused") {
    const { by, until } = pool.paused ?? {};
    const end = until ? `, until ${moment(until)}` : "";
    warn(`Pool ${pool.name} is paused${by ? ` by ${by}` : ""}${end}.${wait}`);
  } else if (pool.state === "down") {
    bad(`Pool ${pool.name} is down: ${none(every)}.${wait}`);
    return;
  }
  for (const each of pool.listeners ?? []) {
    if (each.state === "refusing" && pool.state === "up") {
      warn(`${each.address} of pool ${pool.name} refuses clients.`);
    }
    if (each.tls) assessCertificates(each.tls, `${each.address} of pool ${pool.name}`, bad, warn);
  }
  if (down.length === 1) {
    const [{ name, why, since }] = down;
    const verb = since ? `has been down for ${ago(since)}` : "is down";
    warn(`${pool.name}/${name} ${verb}${why ? `: ${reason(why)}` : ""}.`);
  } else if (down.length) {
    warn(`${number(down.length)} of ${count(every.length, "destination")} of ${pool.name} are down.`);
  }
  for (const [state, text] of [["paused", "paused"], ["draining", "draining"]]) {
    const some = every.filter((each) => each.state === state);
    if (some.length === 1) note(`${pool.name}/${some[0].name} is ${text}${left(some[0])}.`);
    else if (some.length) note(`${number(some.length)} destinations of ${pool.name} are ${text}.`);
  }
}

function assessCertificates({ problem, expires, expiring }, listener, bad, warn) {
  if (problem) {
    warn(`${listener}: its certificates have changed and cannot be used: ${problem}.`);
  }
  const days = (new Date(expires).getTime() - Date.now()) / 86400e3;
  if (days <= 0) bad(`${listener}: the certificate of ${expiring} expired ${ago(expires)} ago.`);
  else if (days < SOON) warn(`${listener}: the certificate of ${expiring} expires in ${seconds(days * 86400)}.`);
}

function none(every) {
  if (!every.length) return "it has no destination";
  return every.length === 1 ? `${every[0].name} is not up` : `none of its ${number(every.length)} destinations is up`;
}

function left(destination) {
  const { active } = destination;
  return active ? `; ${count(active, "session")} left` : "; no session is left";
}
