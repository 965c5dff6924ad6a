// Elements of the page. Text only ever enters as text, never as markup.

/** Make an element: attributes and listeners ("onclick") by name; children are elements or text. */
function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Make an element of a drawing. */
function shape(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A row of buttons of which one is pressed. */
function choices(label, entries, chosen, choose) {
  const buttons = entries.map(([key, text]) =>
    element("button", { type: "button", "aria-pressed": String(key === chosen), onclick: () => pick(key) }, text),
  );
  const pick = (key) => {
    entries.forEach(([other], number) => buttons[number].setAttribute("aria-pressed", String(other === key)));
    choose(key);
  };
  return element("div", { class: "choices", role: "group", "aria-label": label }, ...buttons);
}

/** A list to choose from, with its label before it. */
function selection(label, entries, chosen, choose) {
  const list = element("select", { onchange: () => choose(list.value) });
  for (const [key, text] of entries) list.append(element("option", { value: key }, text));
  list.value = chosen;
  return element("label", {}, element("span", { class: "quiet" }, label), list);
}

/** A box to tick. */
function tick(label, chosen, choose) {
  const box = element("input", { type: "checkbox", onchange: () => choose(box.checked) });
  box.checked = chosen;
  return element("label", {}, box, label);
}

/** A symbol of the papers, with its index below. */
function symbol([base, below]) {
  return element("span", { class: "symbol" }, base, below ? element("sub", {}, below) : null);
}

/** A button that copies a text, also where a page from a disk may not use the clipboard. */
function copyButton(label, text) {
  const button = element("button", { type: "button" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      const area = element("textarea", { class: "hidden", "aria-hidden": "true" });
      area.value = text();
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

/** Offer a text as a file. */
function saveText(name, text) {
  const place = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  element("a", { href: place, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(place), 10000);
}

/** Offer a drawing as a PNG. */
function savePicture(name, canvas) {
  canvas.toBlob((blob) => {
    const place = URL.createObjectURL(blob);
    element("a", { href: place, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(place), 10000);
  }, "image/png");
}

/** A field for a number; `change` is called with what is typed. */
function numberInput(label, change) {
  return element("input", {
    type: "number", step: "any", "aria-label": label,
    onchange: (event) => Number.isFinite(event.target.valueAsNumber) && change(event.target.valueAsNumber),
  });
}

/** A number as a field takes it. */
function plainNumber(value) {
  return String(Number(value.toPrecision(4)));
}

/** Let an element be dragged: each move tells how far the pointer has come, in pixels of the page. */
function draggable(target, start, move) {
  target.addEventListener("pointerdown", (down) => {
    if (down.button !== 0) return;
    down.preventDefault();
    target.focus();
    target.setPointerCapture(down.pointerId);
    const from = start(down);
    const follow = (event) => move(event.clientX - down.clientX, from);
    const stop = () => {
      target.removeEventListener("pointermove", follow);
      target.removeEventListener("pointerup", stop);
      target.removeEventListener("pointercancel", stop);
    };
    target.addEventListener("pointermove", follow);
    target.addEventListener("pointerup", stop);
    target.addEventListener("pointercancel", stop);
  });
}
