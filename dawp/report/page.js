"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const players = all("audio");
  const matched = document.getElementById("matched");
  const together = document.getElementById("together");
  const clips = all("details.clip");

  // Equal loudness for all sounds of a clip, or their original levels.
  const setLevel = (player) => { player.volume = matched.checked ? Number(player.dataset.volume) : 1; };
  const probe = new Audio();
  probe.volume = 0.5;
  if (probe.volume !== 0.5) { // some devices do not let a page set the volume
    matched.checked = false;
    matched.disabled = true;
    matched.parentElement.append(" – not possible on this device");
  }
  players.forEach(setLevel);
  matched.addEventListener("change", () => players.forEach(setLevel));

  // Play one sound at a time; another sound of the same clip starts at the same position.
  let latest = null;
  for (const player of players) {
    player.addEventListener("play", () => {
      if (latest && latest !== player) {
        const position = latest.currentTime;
        const keepsPosition = together.checked && !latest.ended && latest.closest(".clip") === player.closest(".clip");
        latest.pause();
        if (keepsPosition) player.currentTime = position;
      }
      latest = player;
    });
  }

  // Show the output of the epoch that the slider selects.
  for (const panel of all(".epochs")) {
    const outputs = JSON.parse(panel.querySelector("script").textContent);
    const slider = panel.querySelector("input");
    const player = panel.querySelector("audio");
    const picture = panel.querySelector("img");
    const curves = panel.closest(".clip").querySelector(".curves");
    const show = () => {
      const output = outputs[Number(slider.value)];
      const values = output.values.join(", ");
      panel.querySelector("output").textContent = output.epoch;
      panel.querySelector(".values").textContent = values;
      slider.setAttribute("aria-valuetext", `epoch ${output.epoch}${values && ": " + values}`);
      picture.src = output.spectrogram.src;
      picture.alt = output.spectrogram.alt;
      if (player.getAttribute("src") !== output.src) {
        const isPlaying = !player.paused;
        const position = player.currentTime;
        player.src = output.src;
        player.currentTime = position;
        if (isPlaying) player.play().catch(() => {}); // the slider may move again before playback starts
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

  // Sort numerically, with missing values last.
  for (const table of all("table.sortable")) {
    const headings = all("thead th", table);
    headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = table.tBodies[0];
      const value = (row) => row.cells[column].dataset.value;
      body.append(...[...body.rows].sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return (descending ? -1 : 1) * (Number(a) - Number(b));
      }));
    }));
  }

  // Open clips by links, by buttons and for printing.
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
