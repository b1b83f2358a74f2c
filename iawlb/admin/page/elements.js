// Elements are made here, from text alone: a name may hold anything.

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function icon(name) {
  const found = svg("svg", { class: "icon", "aria-hidden": "true", focusable: "false" });
  const use = svg("use", { href: `#i-${name}` });
  found.append(use);
  return found;
}

// Write only what differs: the browser then lays out only what has changed.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

// Have `parent` hold these children in this order, and move no more than needed.
export function arrange(parent, children) {
  const wanted = new Set(children);
  for (const each of [...parent.children]) {
    if (!wanted.has(each)) each.remove();
  }
  let place = parent.firstElementChild;
  for (const each of children) {
    if (each === place) place = place.nextElementSibling;
    else parent.insertBefore(each, place);
  }
}
