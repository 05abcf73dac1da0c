"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const views = new Map();

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function config() {
    const text = css("--text"), muted = css("--muted"), line = css("--line");
    const font = "system-ui, sans-serif";
    return {
      background: "transparent",
      font,
      axis: {
        labelColor: muted, titleColor: muted, titleFontWeight: "normal", gridColor: line, domainColor: muted,
        tickColor: muted, labelFontSize: 12, titleFontSize: 12, labelOverlap: true,
      },
      legend: { labelColor: text, labelFontSize: 12, symbolStrokeWidth: 2, layout: { top: { direction: "vertical" } } },
      view: { stroke: null },
      rule: { color: muted },
      range: {
        category: ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"].map(css),
        // Rounds have an order, and so have these: one hue after another of equal steps in lightness.
        ordinal: { scheme: "viridis", extent: dark.matches ? [1, 0.3] : [0.85, 0.1] },
      },
    };
  }

  async function draw(figure) {
    const plot = data[figure.dataset.plot];
    const spec = { ...plot.spec, datasets: { rows: plot.rows } };
    const made = await vegaEmbed(figure.querySelector(".plot"), spec, {
      actions: false, renderer: "svg", ast: true, config: config(), tooltip: { theme: dark.matches ? "dark" : "light" },
    });
    views.get(figure)?.finalize();
    views.set(figure, made.view);
  }

  async function drawAll() {
    for (const figure of document.querySelectorAll("figure[data-plot]")) {
      try {
        await draw(figure);
      } catch (error) {
        figure.querySelector(".plot").textContent = `cannot be drawn: ${error.message}`;
      }
    }
    document.documentElement.dataset.drawn = "yes";
  }

  // A spreadsheet takes a text that begins like a formula for one.
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value !== "string") return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function csv(name) {
    const { columns, rows } = data[name];
    return [columns, ...rows.map((row) => columns.map((column) => row[column]))]
      .map((cells) => cells.map(cell).join(",") + "\n").join("");
  }

  function save(name, text, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name.replace(/[^\w.-]+/g, "_");
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function numbers(name) {
    const { columns, rows } = data[name];
    const table = document.createElement("table");
    for (const cells of [columns, ...rows.map((row) => columns.map((column) => row[column]))]) {
      const line = table.insertRow();
      for (const value of cells) {
        const shown = typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(5))) : value;
        line.insertCell().textContent = shown ?? "";
      }
    }
    return table;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.csv) save(`${button.dataset.csv}.csv`, csv(button.dataset.csv), "text/csv;charset=utf-8");
    if ("svg" in button.dataset) {
      const figure = button.closest("figure");
      save(`${figure.dataset.plot}.svg`, await views.get(figure).toSVG(), "image/svg+xml");
    }
  });
  for (const details of document.querySelectorAll("figure details")) {
    details.addEventListener("toggle", () => {
      const place = details.querySelector(".scroll");
      if (details.open && !place.firstChild) place.append(numbers(details.closest("figure").dataset.plot));
    });
  }
  dark.addEventListener("change", drawAll);
  drawAll();
})();
