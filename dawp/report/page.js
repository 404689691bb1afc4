"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const players = all("audio");
  const matched = document.getElementById("matched");
  const together = document.getElementById("together");
  const clips = all("details.clip");

  // One loudness for all sounds of a clip, or their true levels.
  const setLevel = (player) => { player.volume = matched.checked ? Number(player.dataset.volume) : 1; };
  const probe = new Audio();
  probe.volume = 0.5;
  if (probe.volume !== 0.5) { // where only the device's own buttons set the volume
    matched.checked = false;
    matched.disabled = true;
    matched.parentElement.append(" – not possible on this device");
  }
  players.forEach(setLevel);
  matched.addEventListener("change", () => players.forEach(setLevel));

  // One sound at a time; another of the same clip goes on where the one before it was.
  let latest = null;
  for (const player of players) {
    player.addEventListener("play", () => {
      if (latest && latest !== player) {
        const place = latest.currentTime;
        const moves = together.checked && !latest.ended && latest.closest(".clip") === player.closest(".clip");
        latest.pause();
        if (moves) player.currentTime = place;
      }
      latest = player;
    });
  }

  // The output of every kept epoch.
  for (const journey of all(".journey")) {
    const outputs = JSON.parse(journey.querySelector("script").textContent);
    const slider = journey.querySelector("input");
    const player = journey.querySelector("audio");
    const picture = journey.querySelector("img");
    const curves = journey.closest(".clip").querySelector(".curves");
    const show = () => {
      const output = outputs[Number(slider.value)];
      const said = output.values.join(", ");
      journey.querySelector("output").textContent = output.epoch;
      journey.querySelector(".said").textContent = said;
      slider.setAttribute("aria-valuetext", `epoch ${output.epoch}${said && ": " + said}`);
      picture.src = output.spectrogram.src;
      picture.alt = output.spectrogram.alt;
      if (player.getAttribute("src") !== output.src) {
        const goesOn = !player.paused;
        const place = player.currentTime;
        player.src = output.src;
        player.currentTime = place;
        if (goesOn) player.play().catch(() => {}); // the next step may come before it plays
      }
      player.dataset.volume = output.volume;
      setLevel(player);
      if (curves) {
        const [left, right, epochs] = ["left", "right", "epochs"].map((name) => Number(curves.dataset[name]));
        const marker = curves.querySelector(".marker");
        marker.hidden = false;
        marker.style.left = `${100 * (left + (right - left) * (output.epoch - 1) / Math.max(1, epochs - 1))}%`;
      }
    };
    slider.addEventListener("input", show);
    show();
  }

  // Sorting: numbers as numbers, what is missing last.
  for (const table of all("table.sortable")) {
    const headings = all("thead th", table);
    headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const value = (row) => row.cells[column].dataset.value;
      body.append(...[...body.rows].sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return (down ? -1 : 1) * (Number(a) - Number(b));
      }));
    }));
  }

  // Clips are opened by links to them, by buttons, and for the printer.
  const openAll = (open) => clips.forEach((clip) => { clip.open = open; });
  document.getElementById("open-all")?.addEventListener("click", () => openAll(true));
  document.getElementById("close-all")?.addEventListener("click", () => openAll(false));
  window.addEventListener("beforeprint", () => {
    openAll(true);
    all("img").forEach((picture) => { picture.loading = "eager"; });
  });
  for (const clip of clips) {
    const prepare = () => { if (clip.open) all("audio", clip).forEach((player) => { player.preload = "metadata"; }); };
    clip.addEventListener("toggle", prepare);
    prepare();
  }
  const openLinked = () => {
    const clip = clips.find((one) => `#${one.id}` === location.hash);
    if (clip) {
      clip.open = true;
      clip.scrollIntoView();
    }
  };
  window.addEventListener("hashchange", openLinked);
  openLinked();
})();
