// What the buttons do: ask for a confirmation, tell the balancer, say what came of it.

import { Problem } from "./client.js";
import { make, show, write } from "./elements.js";
import { count, moment, seconds } from "./words.js";

const ENDS = [
  ["", "not by itself"],
  ["60", "after 1 minute"],
  ["300", "after 5 minutes"],
  ["900", "after 15 minutes"],
  ["3600", "after 1 hour"],
];

// How a target is written for the balancer, and for people.
function targetOf(object) {
  if (!object) return { target: "*", words: "all pools" };
  if (object.address === undefined) return { target: object.name, words: `pool ${object.name}` };
  const target = `${object.pool}/${object.name}`;
  return { target, words: target };
}

function running(active) {
  return active === 1 ? "The session that runs now finishes" : `The ${count(active, "session")} that run now finish`;
}

class Dialog {
  constructor(find) {
    this.find = find;
    this.dialog = find("dialog");
    this.error = find("dialog-error");
    this.confirm = find("dialog-confirm");
    find("dialog-cancel").addEventListener("click", () => this.dialog.close());
    find("dialog-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  // Ask; `act` gets the values of the fields and returns what to say, or fails.
  ask({ title, text, verb, fields = [], act }) {
    this.act = act;
    write(this.find("dialog-title"), title);
    write(this.find("dialog-text"), text);
    write(this.confirm, verb);
    this.confirm.disabled = false;
    show(this.error, false);
    this.inputs = fields.map((each) => each.input);
    this.find("dialog-fields").replaceChildren(...fields.map((each) => each.element));
    this.dialog.showModal();
    (this.inputs[0] ?? this.find("dialog-cancel")).focus();
  }

  async #submit() {
    if (this.confirm.disabled) return;
    this.confirm.disabled = true;
    show(this.error, false);
    const { act } = this;
    try {
      await act(this.inputs.map((each) => each.value));
      if (this.act === act) this.dialog.close();
    } catch (error) {
      write(this.error, why(error));
      show(this.error, true);
    }
    this.confirm.disabled = false;
  }
}

function why(error) {
  if (error.name === "TimeoutError") return "The balancer has not answered in time. It may still do it.";
  return error.status ? error.message : "The balancer cannot be reached.";
}

let fields = 0;

function field(label, input, hint) {
  const element = make("p", "field");
  const id = `field-${(fields += 1)}`;
  const text = make("label", "", label);
  input.id = id;
  text.htmlFor = id;
  element.append(text, input);
  if (hint) {
    const said = make("span", "hint", hint);
    said.id = `${id}-hint`;
    input.setAttribute("aria-describedby", said.id);
    element.append(said);
  }
  return { element, input };
}

function numeric(value, least, most, step = "1") {
  const input = make("input");
  Object.assign(input, { type: "number", min: least, max: most, step, value, inputMode: "numeric" });
  return input;
}

function choice(options) {
  const select = make("select");
  for (const [value, text] of options) {
    const option = make("option", "", text);
    option.value = value;
    select.append(option);
  }
  return select;
}

export class Actions {
  constructor(find, client, changed) {
    this.client = client;
    this.changed = changed;
    this.dialog = new Dialog(find);
    this.result = find("result");
    this.resultText = find("result-text");
    this.announce = find("announce");
    this.timer = 0;
    find("result-close").addEventListener("click", () => show(this.result, false));
  }

  pause(object) {
    const { target, words } = targetOf(object);
    const each = object?.address === undefined ? "New clients wait in order, and none is refused." : "It takes no new clients; they go to the others, or wait.";
    const ends = choice(ENDS);
    const longest = numeric("", 0, 86400, "any");
    const isPool = object?.address === undefined;
    this.dialog.ask({
      title: `Pause ${words}?`,
      text: `${each} ${running(object?.active ?? this.sessions ?? 0)}.`,
      verb: "Pause",
      fields: [
        field("The pause ends", ends),
        ...(isPool ? [field("Longest wait of one client, in seconds", longest, "Empty: the queue time-out of the pool.")] : []),
      ],
      act: async () => {
        const body = { target, wait: false, for: ends.value ? Number(ends.value) : null };
        if (isPool && longest.value !== "") body.maxPause = Number(longest.value);
        const end = ends.value ? ` for ${seconds(Number(ends.value))}` : "";
        await this.#post("pause", body, `Paused ${words}${end}.`);
      },
    });
  }

  resume(object) {
    const { target, words } = targetOf(object);
    const isPool = object?.address === undefined;
    const { by, since } = object?.paused ?? {};
    const told = by ? `Paused by ${by}${since ? ` since ${moment(since)}` : ""}. ` : "";
    const spread = numeric("0", 0, 3600, "any");
    const waiting = object ? (object.waiting ?? 0) : (this.waiting ?? 0);
    const then = isPool ? `${count(waiting, "client")} that wait${waiting === 1 ? "s" : ""} go${waiting === 1 ? "es" : ""} on.` : "It takes new clients again.";
    this.dialog.ask({
      title: `Resume ${words}?`,
      text: `${told}${then}`,
      verb: "Resume",
      fields: isPool ? [field("Let them in over, in seconds", spread, "0: at once, as there are slots.")] : [],
      act: () => this.#post("resume", { target, spread: Number(spread.value) || 0 }, `Resumed ${words}.`),
    });
  }

  drain(destination) {
    const { target, words } = targetOf(destination);
    this.dialog.ask({
      title: `Drain ${words}?`,
      text: `It takes no new clients. ${running(destination.active)}; none is cut. When none is left, it can be stopped. Resume undoes it.`,
      verb: "Drain",
      act: () => this.#post("drain", { target, wait: false }, `${words} drains.`),
    });
  }

  setSlots(object) {
    const { target, words } = targetOf(object);
    const slots = numeric(String(object.slots), 0, 1000000);
    slots.required = true;
    this.dialog.ask({
      title: `Slots of ${words}`,
      text: `How many sessions it serves at a time; ${count(object.active, "session")} now. Sessions that run are not cut.`,
      verb: "Set slots",
      fields: [field("Slots", slots, "0: no limit.")],
      act: () => {
        const wanted = Number(slots.value);
        const said = wanted ? count(wanted, "slot") : "no limit of slots";
        const text = `${words} has ${said} now.`;
        return this.#post("set", { target, slots: wanted }, text);
      },
    });
  }

  signIn() {
    const token = make("input");
    Object.assign(token, { type: "password", autocomplete: "off", required: true });
    this.dialog.ask({
      title: "Sign in",
      text: "The balancer's administrator has a file of tokens. One of the role “operate” may pause, drain and set slots.",
      verb: "Sign in",
      fields: [field("Token", token, "Kept until this tab is closed.")],
      act: async () => {
        const before = this.client.token;
        const given = token.value.trim();
        if (!/^[!-~]+$/.test(given)) throw new Problem(400, "A token is of letters, digits and - . _ ~ + / =");
        this.client.signIn(given);
        try {
          const status = await this.client.get("status");
          this.say(`Signed in: the role is ${status.role}.`);
        } catch (error) {
          if (before) this.client.signIn(before);
          else this.client.signOut();
          throw error.status === 401 || error.status === 403 ? Object.assign(error, { message: "The balancer does not know this token." }) : error;
        }
        this.changed();
      },
    });
  }

  // Show a message, and have screen readers say it.
  say(text) {
    write(this.resultText, text);
    show(this.result, true);
    write(this.announce, text);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => show(this.result, false), 12000);
  }

  async #post(path, body, done) {
    const answer = await this.client.post(path, body);
    const messages = Array.isArray(answer.messages) ? answer.messages.filter(Boolean) : [];
    this.say([done, ...messages].join(" "));
    this.changed();
  }
}
