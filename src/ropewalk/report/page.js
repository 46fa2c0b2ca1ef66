(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const views = [];

  // Charts: one after the other, so that the page answers while they appear.
  const options = { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, config: data.config };
  async function draw() {
    for (const place of all("[data-chart]")) {
      try {
        const spec = { ...data.charts[place.dataset.chart], width: "container", autosize: { type: "fit-x", contains: "padding" } };
        const { view } = await vegaEmbed(place, spec, options);
        views.push(view);
      } catch (error) {
        place.classList.add("failed");
        place.textContent = `This chart could not be drawn: ${error.message}`;
        console.error(error);
      }
    }
    show();
    document.documentElement.dataset.drawn = String(views.length);
  }

  // Methods: a key switches its method on or off in every chart.
  const hidden = new Set();
  function show() {
    const shown = data.methods.filter((name) => !hidden.has(name));
    for (const view of views) {
      try { view.signal("shown", shown).runAsync(); } catch { /* a map of one configuration has no switch */ }
    }
    for (const key of all(".key[data-method]")) key.setAttribute("aria-pressed", String(!hidden.has(key.dataset.method)));
  }
  document.addEventListener("click", (event) => {
    const key = event.target.closest?.(".key[data-method]");
    if (!key) return;
    const name = key.dataset.method;
    if (!hidden.delete(name)) hidden.add(name);
    show();
  });

  // The full table: every cell as text, never as markup.
  const { columns, rows } = data.table;
  const table = document.getElementById("rows");
  const filters = document.getElementById("filters");
  const more = document.getElementById("more");
  const control = (name) => filters.querySelector(`[name="${name}"]`); // elements.length is not the control
  const STEP = 100, PAPER = 1000;
  let limit = STEP, sorted = null, down = false;
  const digits = (x) => (Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-4) ? x.toExponential(2) : String(Number(x.toPrecision(4))));
  const text = (value, kind) => {
    if (value === null) return "–";
    if (kind === "count") return value.toLocaleString("en");
    return kind === "number" ? digits(value) : String(value);
  };
  const cell = (row, index) => {
    const { kind } = columns[index];
    const share = kind === "value" && data.table.shares.includes(row[data.table.metric]) && row[index] !== null;
    return share ? `${Math.round(100 * row[index])} %` : text(row[index], kind === "value" ? "number" : kind);
  };
  columns.forEach(({ name, kind }, index) => {
    const head = document.createElement("th");
    const button = document.createElement("button");
    head.scope = "col";
    head.className = kind === "text" ? "" : "num";
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      down = sorted === index && !down;
      sorted = index;
      fill();
    });
    head.append(button);
    table.tHead.rows[0].append(head);
  });
  for (const name of ["method", "length", "metric"]) {
    const values = [...new Set(rows.map((row) => row[data.table[name]]))];
    for (const value of name === "length" ? values.sort((a, b) => a - b) : values) {
      control(name).add(new Option(name === "length" ? value.toLocaleString("en") : value, value));
    }
  }
  const place = (name) => columns.findIndex((column) => column.name === name);
  const named = ["configuration", "metric", "status"].map(place);
  const rotation = place("rotation");
  const found = (row, word) =>
    named.some((index) => row[index].toLowerCase().includes(word)) || (word.length > 5 && row[rotation].startsWith(word));
  function chosen() {
    const wanted = Object.fromEntries(["method", "length", "metric"].map((name) => [name, control(name).value]));
    const words = control("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = rows.filter((row) =>
      Object.entries(wanted).every(([name, value]) => !value || String(row[data.table[name]]) === value) &&
      words.every((word) => found(row, word)));
    if (sorted === null) return kept;
    const sign = down ? -1 : 1;
    const order = (a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    return kept.sort((a, b) => {
      const [x, y] = [a[sorted], b[sorted]];
      return x === null || y === null ? (x === null) - (y === null) : sign * order(x, y);
    });
  }
  function fill() {
    const kept = chosen();
    const body = document.createElement("tbody");
    for (const row of kept.slice(0, limit)) {
      const line = body.insertRow();
      columns.forEach(({ kind }, index) => {
        const place = line.insertCell();
        place.textContent = cell(row, index);
        if (kind !== "text") place.className = "num";
      });
    }
    table.tBodies[0].replaceWith(body);
    all("th", table).forEach((head, index) => {
      if (index === sorted) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    more.hidden = kept.length <= limit;
    const first = more.hidden ? "" : `, the first ${limit} shown`;
    document.getElementById("count").textContent = `${kept.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows${first}`;
    more.textContent = `Show all ${kept.length.toLocaleString("en")} rows`;
  }
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("input", () => { limit = STEP; fill(); });
  more.addEventListener("click", () => { limit = Infinity; fill(); });

  // Colours: as the system, light, or dark.
  const theme = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const paint = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    theme.querySelector("span").textContent = name;
    theme.setAttribute("aria-label", `Colours: ${name === "auto" ? "as the system" : name}`);
  };
  theme.addEventListener("click", () => paint(themes[(themes.indexOf(theme.querySelector("span").textContent) + 1) % 3]));

  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.from);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  // Paper has no folds and no buttons.
  let folded = [], before = STEP;
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((d) => { d.open = true; });
    before = limit;
    limit = Math.max(limit, PAPER);
    fill();
  });
  addEventListener("afterprint", () => {
    folded.forEach((d) => { d.open = false; });
    limit = before;
    fill();
  });

  fill();
  draw();
})();
