// Two results: which ones, and how they are laid over each other.

const BLINK = 800; // milliseconds for each result: slow enough for everybody

/** The part of the toolbar that chooses results; nothing where there is only one. */
function comparisonTools(app) {
  if (app.results.length < 2) return null;
  const entries = app.results.map((result, number) => [String(number), result.name]);
  const modes = choices("Way to compare", [["split", "Slider"], ["blink", "Blink"], ["difference", "A − B"]], app.way, (way) => {
    app.way = way;
    restart(app);
  });
  const change = (first, second) => {
    app.show(first, second);
    compared.querySelector("select").value = app.second ? String(app.results.indexOf(app.second)) : "";
    modes.hidden = common.hidden = !app.second;
    restart(app);
  };
  const shown = selection("Show", entries, "0", (value) => change(app.results[Number(value)], app.second));
  const compared = selection("compare with", [["", "nothing"], ...entries], "1", (value) =>
    change(app.first, value === "" ? null : app.results[Number(value)]),
  );
  const common = tick("Common contrast", app.common, (on) => {
    app.common = on;
    app.panels.forEach((panel) => panel.loaded());
  });
  restart(app);
  return element("div", { class: "group" }, shown, compared, modes, common);
}

/** Start or stop blinking. Who has asked for less motion switches with the key B instead. */
function restart(app) {
  clearInterval(app.blinking);
  app.blinking = null;
  app.flip = false;
  if (app.comparing === "blink" && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    app.blinking = setInterval(() => app.turn(), BLINK);
  }
  app.refresh();
}
