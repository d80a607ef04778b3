/* Elements. What the service says is only ever put into text, never into markup. */
export const $ = id => document.getElementById(id);

export const made = (kind, fields = {}, ...children) => {
  const element = Object.assign(document.createElement(kind), fields);
  element.append(...children);
  return element;
};

export const drawn = (kind, fields, text = "") => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(fields)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
};

export const picture = png => `data:image/png;base64,${png}`;
