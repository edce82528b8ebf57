"use strict";
(() => {
  const dialog = document.getElementById("large");
  const large = document.createElement("img");
  let preview = "";
  // The photo is not where it was, or this browser cannot show it.
  large.addEventListener("error", () => { if (large.src !== preview) large.src = preview; });
  for (const image of document.querySelectorAll(".card img[data-address]")) {
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    const open = () => {
      preview = image.src;
      large.src = image.dataset.address;
      large.alt = image.alt;
      const path = image.closest(".card").querySelector(".path");
      dialog.querySelector(".path").textContent = path.title;
      dialog.querySelector("form").after(large);
      dialog.showModal();
    };
    image.addEventListener("click", open);
    image.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
})();
