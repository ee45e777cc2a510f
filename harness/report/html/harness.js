/* What pytest-html's page lacks: search, a filter by status, details put in place when they are
   seen, the environment to copy, keys beside the mouse.  It filters by result and sorts itself. */
(() => {
  "use strict";
  const find = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const rows = () => all("#results-table > tbody.results-table-row").filter(cellOf);
  const cellOf = (row) => find(".collapsible", row);

  /* The page in another language: English texts -> theirs; what has no entry stays. */
  const words = JSON.parse(find("#harness-words")?.textContent ?? "null");
  const patterns = Object.entries(words?.patterns ?? {})
    .map(([from, to]) => [new RegExp(`^${from}$`), to]);
  const inLanguage = (text) => {
    const whole = text.trim().replace(/\s+/g, " ");
    if (!words || !whole) return text;
    if (words.exact[whole]) return ` ${words.exact[whole]} `;
    const plain = whole.replace(/ \[[A-Z]+\]$/, "");  // a mark behind a title
    const [from, to] = patterns.find(([pattern]) => pattern.test(plain)) ?? [];
    const parts = from?.exec(plain)?.slice(1) ?? [];
    const part = (_, number) => inLanguage(parts[number - 1] ?? "").trim();
    const said = words.exact[plain] ?? to?.replace(/\$(\d)/g, part);
    return said === undefined ? text : ` ${said}${whole.slice(plain.length)} `;
  };
  const ATTRIBUTES = ["title", "aria-label", "placeholder", "alt"];
  const translate = (root) => {
    if (!words) return;
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
      if (node.parentElement.closest("script, style, pre")) continue;
      const said = inLanguage(node.data);
      if (said !== node.data) node.data = said;
    }
    for (const name of ATTRIBUTES) {
      for (const one of all(`[${name}]`, root)) {
        one.setAttribute(name, inLanguage(one.getAttribute(name)).trim());
      }
    }
  };

  /* Details: one packed element for all cases; a place is filled as it comes into view. */
  let details = null;
  let failure = "";
  const unpack = async () => {
    const text = atob(find("#harness-details").textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    details = JSON.parse(await new Response(stream).text());
  };
  const fill = (place) => {
    if (place.dataset.filled || (!details && !failure)) return;
    place.dataset.filled = "yes";
    if (details) place.innerHTML = details.cases[place.dataset.case] ?? "";
    else place.textContent = failure;
    all("img[data-picture]", place).forEach((image) => {
      image.src = `data:image/jpeg;base64,${details.pictures[image.dataset.picture]}`;
    });
    all("[data-meaning]", place).forEach((name) => {
      name.title = details.meanings[name.dataset.meaning];
    });
    translate(place);
    settle();
  };
  const viewed = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => fill(entry.target));
  }, { rootMargin: "600px" });
  const watch = () => all(".harness-lazy:not([data-filled])").forEach((place) => {
    viewed.unobserve(place);  // observed anew, it is looked at once more
    viewed.observe(place);
  });

  /* Whoever scrolls with keys must be able to get there.  All is measured before anything is
     changed: else the page would be laid out anew for every box. */
  const SCROLLING = ".harness-scroll, .harness-figure, .extras-row:not(.hidden) .logwrapper";
  const focusable = (root) => {
    const boxes = all(SCROLLING, root).filter((box) => box.getClientRects().length);
    const scrolls = boxes.map((box) => box.scrollWidth > box.clientWidth
      || box.scrollHeight > box.clientHeight);
    boxes.forEach((box, i) => (scrolls[i] ? box.setAttribute("tabindex", "0")
      : box.removeAttribute("tabindex")));
  };
  let planned = false;
  const settle = () => {
    if (planned) return;
    planned = true;
    setTimeout(() => {
      planned = false;
      spread();
      focusable(document);
    }, 100);
  };

  /* Search and status, over the rows that pytest-html shows. */
  const search = find("#harness-search");
  const status = find("#harness-status");
  let total = 0;
  let applied = false;  // whether a row is left out
  const statusOf = (row) => find(".col-status", row)?.textContent ?? "";
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const present = rows();
    let shown = words.length || status.value || applied ? 0 : present.length;
    for (const row of shown ? [] : present) {
      const text = cellOf(row).textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word))
        && (!status.value || statusOf(row) === status.value);
      row.classList.toggle("harness-out", !fits);
      shown += fits;
    }
    applied = shown < present.length;
    find("#harness-count").textContent = inLanguage(`${shown} of ${total} results`);
    find("#harness-none").hidden = shown > 0 || !present.length;
  };

  /* The row below another is as wide as the columns that are shown. */
  const spread = () => {
    const shown = all("#results-table-head th").filter((head) => head.getClientRects().length);
    all("#results-table td[colspan]").filter((cell) => cell.colSpan !== shown.length)
      .forEach((cell) => {
        cell.colSpan = shown.length;
      });
  };

  /* pytest-html makes a new table at every click. */
  const redrawn = () => {
    translate(find("#results-table"));
    apply();
    watch();
    for (const head of all("#results-table .sortable")) {
      const order = head.classList.contains("desc") ? "descending" : "ascending";
      const sorted = head.classList.contains("asc") || head.classList.contains("desc");
      head.setAttribute("aria-sort", sorted ? order : "none");
    }
    settle();
  };
  const keys = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    const { target } = event;
    if (!target.matches(".sortable, .collapsible .col-result")) return;
    event.preventDefault();
    const again = target.matches(".sortable")
      ? `.sortable[data-column-type="${target.dataset.columnType}"]`
      : `.collapsible[data-id="${target.parentElement.dataset.id}"] .col-result`;
    target.click();
    queueMicrotask(() => find(again)?.focus());  // after `redrawn`
  };

  /* A case that is named above the results: its row, unfolded. */
  const go = (event) => {
    const name = event.target.closest("a[data-case]")?.dataset.case;
    if (!name) return;
    search.value = name;
    status.value = "";
    apply();
    const row = rows().find((one) => find(".col-testId", one).textContent.trim() === name);
    if (row && find(".extras-row.hidden", row)) find(".col-result", row).click();
  };

  /* Environment: below the results, with a button that copies it. */
  const environmentText = () => {
    const lines = all(".harness-top, .harness-device").map((line) => line.textContent.trim());
    for (const row of all("#environment tr")) {
      const [name, value] = all("td", row);
      const parts = all("li", value).map((part) => part.textContent);
      lines.push(`${name.textContent}: ${parts.join(", ") || value.textContent}`);
    }
    return lines.join("\n");
  };
  const copy = async (button) => {
    const text = environmentText();
    let copied = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // a page that is a file may not be allowed to
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      copied = document.execCommand("copy");
      area.remove();
    }
    button.textContent = inLanguage(copied ? "Copied" : "Not copied: select the table").trim();
  };
  const placeEnvironment = () => {
    const button = document.createElement("button");
    button.id = "harness-copy";
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", () => copy(button));
    find("footer").before(find("#environment-header"), button, find("#environment"));
    find("footer").before(...all(".harness-glossary"));
  };

  const start = () => {
    document.documentElement.lang = words?.language ?? "en";
    all("input.filter").forEach((box) => {
      box.setAttribute("aria-label", `show ${box.nextElementSibling.textContent.replace(",", "")}`);
    });
    placeEnvironment();
    total = rows().length;
    const found = new Set(rows().map(statusOf).filter(Boolean));
    status.append(...[...found].sort().map((word) => new Option(word)));
    search.addEventListener("input", apply);
    status.addEventListener("change", apply);
    document.addEventListener("keydown", keys);
    document.addEventListener("click", go);
    document.addEventListener("toggle", settle, true);
    addEventListener("resize", settle);
    addEventListener("beforeprint", () => all(".harness-lazy").filter(
      (place) => place.getClientRects().length).forEach(fill));
    document.title = inLanguage(document.title).trim();
    translate(document.body);
    new MutationObserver(redrawn).observe(document.body, { childList: true });
    redrawn();
    unpack().catch((error) => {
      failure = `This browser cannot unpack the details (${error}); the records hold them all.`;
    }).finally(watch);
  };
  document.addEventListener("DOMContentLoaded", start);
})();
