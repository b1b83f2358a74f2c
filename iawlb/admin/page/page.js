// The page: asks for the status every second, and draws what it says.

import { Actions } from "./actions.js";
import { Charts, History } from "./charts.js";
import { Client } from "./client.js";
import { arrange, make, set, show, write } from "./elements.js";
import { Events, Waiters } from "./lists.js";
import { Pools } from "./pools.js";
import { assess, moment, seconds } from "./words.js";

const find = (id) => document.getElementById(id);
const NOTES = 6;
const SIGNS = { good: "up", warn: "warn", bad: "down", unknown: "unknown" };
const ROLES = ["read", "operate", "admin"];

class Page {
  constructor() {
    this.client = new Client();
    this.actions = new Actions(find, this.client, () => this.refresh());
    this.pools = new Pools(find, this.actions);
    this.history = new History();
    this.charts = new Charts(find);
    this.waiters = new Waiters(find);
    this.events = new Events(find);
    this.status = null;
    this.lostSince = null;
    this.headline = "";
    this.wake = () => {};
    const pauseAll = make("button", "", "Pause all");
    const resumeAll = make("button", "", "Resume all");
    pauseAll.type = resumeAll.type = "button";
    pauseAll.addEventListener("click", () => this.actions.pause(null));
    resumeAll.addEventListener("click", () => this.actions.resume(null));
    find("all-buttons").append(pauseAll, resumeAll);
    find("sign-in").addEventListener("click", () => {
      if (!this.client.token) {
        this.actions.signIn();
        return;
      }
      this.client.signOut();
      this.refresh();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  // Ask now, not at the next second.
  refresh() {
    this.wake();
  }

  async run() {
    this.client.follow((event) => {
      this.events.add(event);
      this.refresh();
    });
    for (;;) {
      const began = performance.now();
      const wait = await this.#turn();
      const left = Math.max(wait - (performance.now() - began), 200);
      await new Promise((done) => {
        const timer = setTimeout(done, left);
        // Events may come in crowds: no more than five questions a second.
        this.wake = () => {
          clearTimeout(timer);
          setTimeout(done, Math.max(200 - (performance.now() - began), 0));
        };
      });
      this.wake = () => {};
    }
  }

  async #turn() {
    const began = performance.now();
    let status;
    try {
      status = await this.client.get("status");
      if (!Array.isArray(status.pools)) throw new TypeError("no pools");
    } catch (error) {
      this.#failed(error);
      return 1000;
    }
    const now = Date.now() / 1000;
    const passed = this.last ? now - this.last : 0;
    this.last = now;
    const before = this.status;
    if (before && (before.pid !== status.pid || before.uptime > status.uptime)) {
      this.client.followAnew();
    }
    this.status = status;
    this.history.add(status, now);
    const took = performance.now() - began;
    this.#found(status, passed, now);
    await this.#askForWaiters(status);
    // What takes long is asked for less often, and for a tab that nobody sees too.
    if (document.hidden) return 5000;
    return Math.min(Math.max(1000, took * 20), 5000);
  }

  async #askForWaiters(status) {
    if (!status.waiting) {
      this.waiters.draw([]);
      return;
    }
    try {
      const { sessions } = await this.client.get("sessions?waiting=true&limit=10");
      this.waiters.draw(sessions);
    } catch {
      // The next question for the status finds out more.
    }
  }

  #found(status, passed, now) {
    this.lostSince = null;
    show(find("lost"), false);
    document.body.classList.remove("stale");
    set(find("link"), "data-link", "live");
    write(find("link-text"), "live");
    const up = typeof status.uptime === "number" ? `, up for ${seconds(status.uptime)}` : "";
    write(find("about"), `${status.version ?? ""}, process ${status.pid ?? "?"}${up}`);
    this.#showRole(status);
    this.#say(assess(status));
    this.actions.sessions = status.sessions;
    this.actions.waiting = status.waiting;
    this.pools.draw(status, passed, this.mayAct);
    this.charts.draw(this.history, status, now);
  }

  #showRole({ role }) {
    const known = ROLES.includes(role) ? role : "read";
    this.mayAct = known !== "read";
    show(find("role"), true);
    write(find("role"), this.mayAct ? `role: ${known}` : "read only");
    show(find("sign-in"), !this.mayAct || Boolean(this.client.token));
    write(find("sign-in"), this.client.token ? "Sign out" : "Sign in");
    show(find("all-buttons"), this.mayAct);
    show(find("reason"), !this.mayAct);
    write(
      find("reason"),
      this.mayAct ? "" : "Read only: to pause, drain or set slots here, sign in with a token of the role “operate”.",
    );
  }

  #say({ level, headline, summary, notes }) {
    set(find("well"), "data-level", level);
    set(find("well-sign"), "href", `#i-${SIGNS[level]}`);
    write(find("headline"), headline);
    write(find("summary"), summary);
    const texts = notes.slice(0, NOTES).map((each) => each.text);
    if (notes.length > NOTES) texts.push(`And ${notes.length - NOTES} more.`);
    const list = find("notes");
    while (list.children.length < texts.length) list.append(make("li"));
    arrange(list, [...list.children].slice(0, texts.length));
    for (const [index, text] of texts.entries()) write(list.children[index], text);
    show(list, texts.length > 0);
    const mark = { good: "", warn: "! ", bad: "✕ ", unknown: "? " }[level];
    const title = `${mark}${headline} · iawlb`;
    if (document.title !== title) document.title = title;
    // Screen readers hear of a change, not of each figure in it.
    const kind = `${level} ${headline.replaceAll(/[\d.,]+ ?(ms|s|min|h|days)?\b/g, "")}`;
    if (this.headline && kind !== this.headline) write(find("announce"), headline);
    this.headline = kind;
  }

  #failed(error) {
    const now = Date.now();
    this.history.gap(now / 1000);
    if (error.status === 401 || error.status === 403) {
      this.#unknown("A token is needed to see this balancer.", error.message);
      set(find("link"), "data-link", "opening");
      write(find("link-text"), "not signed in");
      show(find("lost"), false);
      show(find("sign-in"), true);
      write(find("sign-in"), this.client.token ? "Sign out" : "Sign in");
      return;
    }
    this.lostSince ??= now;
    const since = `${moment(this.lostSince)} (${seconds(Math.round((now - this.lostSince) / 1000))})`;
    const what = error.status ? `it answered ${error.status}` : "no answer";
    const last = this.status ? " What is below was so before." : "";
    write(find("lost"), `The connection to the balancer is lost since ${moment(this.lostSince)}: ${what}.${last}`);
    show(find("lost"), true);
    document.body.classList.add("stale");
    set(find("link"), "data-link", "lost");
    write(find("link-text"), `lost since ${since}`);
    this.#unknown("It is not known whether all is well.", `No answer from the balancer since ${since}.`);
  }

  #unknown(headline, summary) {
    this.#say({ level: "unknown", headline, summary, notes: [] });
    this.charts.draw(this.history, null, Date.now() / 1000);
  }
}

new Page().run();
