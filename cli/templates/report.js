(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const list = byId("cards");
  const cards = [...list.children];
  if (!cards.length) return;
  document.documentElement.classList.add("live");
  const tools = document.querySelector(".tools");
  const choices = [...document.querySelectorAll("input[name=show]")];
  tools.hidden = false;
  // Browsers keep form values over a reload; the page starts fresh instead of half restored.
  tools.reset();
  choices[0].checked = true;

  const place = new Map(cards.map((card, index) => [card, index]));
  const figure = (key) => (card) => (card.dataset[key] === "" ? -Infinity : Number(card.dataset[key]));
  const falling = (key) => (a, b) => figure(key)(b) - figure(key)(a) || place.get(a) - place.get(b);
  const rising = (key) => (a, b) => (b.dataset[key] !== "") - (a.dataset[key] !== "") || figure(key)(a) - figure(key)(b) || 0;
  const orders = {
    suspicion: (a, b) => place.get(a) - place.get(b),
    score: falling("score"),
    "score-up": rising("score"),
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
    area: falling("area"),
    latency: falling("latency"),
  };

  const sort = () => list.append(...[...cards].sort(orders[byId("order").value]));

  const filter = () => {
    const state = choices.find((choice) => choice.checked).value;
    const words = byId("find").value.trim().toLowerCase();
    let count = 0;
    for (const card of cards) {
      card.hidden = (state !== "all" && card.dataset.state !== state) || !card.dataset.name.includes(words);
      count += !card.hidden;
    }
    byId("shown").textContent = count === cards.length ? `${count} picture${count === 1 ? "" : "s"}` : `${count} of ${cards.length} pictures`;
    byId("nothing").hidden = count > 0;
  };

  const fade = (card, value) => card.style.setProperty("--marks", value / 100);

  tools.addEventListener("submit", (event) => event.preventDefault());
  byId("order").addEventListener("change", sort);
  byId("find").addEventListener("input", filter);
  choices.forEach((choice) => choice.addEventListener("change", filter));
  byId("marks").addEventListener("input", (event) => {
    for (const card of cards) {
      const own = card.querySelector(".fade input");
      if (own) own.value = event.target.value;
      fade(card, event.target.value);
    }
  });
  list.addEventListener("input", (event) => fade(event.target.closest(".card"), event.target.value));
  byId("reset").addEventListener("click", () => {
    choices[0].checked = true;
    byId("find").value = "";
    filter();
    byId("find").focus();
  });

  // On paper nothing can be opened; links and hashes are of no use there.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open], .files)")];
    closed.forEach((part) => (part.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((part) => (part.open = false)));
})();
