// Requests to the balancer, and the stream of its events.

const TOKEN = "iawlb-token";
const SILENCE = 45000; // the balancer writes at least every 15 s

// An answer that says why something was not done.
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export class Client {
  #last = "0";
  #stream = new AbortController();

  constructor() {
    this.token = sessionStorage.getItem(TOKEN) ?? "";
  }

  signIn(token) {
    this.token = token;
    sessionStorage.setItem(TOKEN, token);
  }

  signOut() {
    this.token = "";
    sessionStorage.removeItem(TOKEN);
  }

  get(path, milliseconds = 8000) {
    return this.#ask(path, { signal: AbortSignal.timeout(milliseconds) });
  }

  post(path, body, milliseconds = 20000) {
    return this.#ask(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(milliseconds),
    });
  }

  // Call `received` for each event, for ever; connect again when the stream ends.
  // The stream is read by fetch, as EventSource can send neither a token nor, at first,
  // the number of the last event that is known.
  async follow(received) {
    let pause = 1000;
    for (;;) {
      const stop = new AbortController();
      this.#stream = stop;
      let timer = 0;
      const alive = () => {
        clearTimeout(timer);
        timer = setTimeout(() => stop.abort(), SILENCE);
      };
      alive();
      try {
        const answer = await fetch("events", {
          headers: this.#headers({ Accept: "text/event-stream", "Last-Event-ID": this.#last }),
          cache: "no-store",
          signal: stop.signal,
        });
        if (!answer.ok) throw new Problem(answer.status, answer.statusText);
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          alive();
          pause = 1000;
          text = (text + value).replaceAll("\r\n", "\n");
          const blocks = text.split("\n\n");
          text = blocks.pop().slice(-100000);
          for (const block of blocks) {
            const event = parse(block);
            if (event.id) this.#last = event.id;
            if (event.data) received(event.data);
          }
        }
      } catch {
        // The status that is asked for every second shows that the connection is lost.
      }
      clearTimeout(timer);
      stop.abort();
      await new Promise((done) => setTimeout(done, pause));
      pause = Math.min(pause * 2, 15000);
    }
  }

  // Read the events from the first on: another process answers now.
  followAnew() {
    this.#last = "0";
    this.#stream.abort();
  }

  #headers(others) {
    return this.token ? { ...others, Authorization: `Bearer ${this.token}` } : others;
  }

  async #ask(path, options) {
    const answer = await fetch(path, {
      ...options,
      headers: this.#headers({ Accept: "application/json", ...options.headers }),
      cache: "no-store",
    });
    const found = await answer.json().catch(() => null);
    if (answer.ok && found !== null) return found;
    const why = [found?.detail ?? found?.title, ...(found?.mistakes ?? [])];
    throw new Problem(
      answer.status,
      why.filter(Boolean).join(" ") || `the balancer answered ${answer.status}`,
    );
  }
}

// Read one block of a stream of events.
function parse(block) {
  const lines = block.split("\n").map((line) => /^(\w+): ?(.*)$/.exec(line));
  const all = (name) => lines.filter((each) => each?.[1] === name).map((each) => each[2]);
  let data = null;
  try {
    data = JSON.parse(all("data").join("\n"));
  } catch {
    // A comment, which keeps the connection open.
  }
  return { id: all("id").at(-1), data };
}
