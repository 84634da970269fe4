"use strict";

{
  const specs = dataOf("plots");
  const views = new Map();
  const NARROW = 560;
  const WIDEST = 1010;
  const roomOf = (box) => Math.min(box.clientWidth, WIDEST);

  /** The specification with plots of this width. */
  function atWidth(spec, width, narrow) {
    const fitted = structuredClone(spec);
    for (const view of fitted.vconcat ?? [fitted]) view.width = width;
    fitted.config.axisBottom = { ...fitted.config.axisBottom, titleLimit: width };
    if (narrow) {
      fitted.padding = { left: 0, top: 8, right: 2, bottom: 8 };
      fitted.config.legend.columns = 1;
      fitted.config.axis.labelFontSize = 10;
    }
    return fitted;
  }

  // The interpreter: the page's policy allows no code made from text.
  const options = { renderer: "svg", ast: true, actions: false };

  /** Draw as wide as there is room; what stands beside the plots is known once they are drawn. */
  async function draw(box) {
    const spec = specs[box.dataset.plot];
    const room = roomOf(box);
    const narrow = room < NARROW;
    let width = room - 90;
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const result = await vegaEmbed(box, atWidth(spec, Math.max(width, 110), narrow), options);
      views.get(box.dataset.plot)?.finalize();
      views.set(box.dataset.plot, result);
      const drawn = Number(box.querySelector("svg").getAttribute("width"));
      if (Math.abs(drawn - room) <= 2) break;
      width -= drawn - room;
    }
    box.dataset.drawn = String(room);
  }

  async function drawAll() {
    for (const box of document.querySelectorAll(".chart")) {
      if (box.dataset.drawn !== String(roomOf(box))) await draw(box);
    }
  }

  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => drawAll().catch(console.error), 200);
  });

  async function save(name, kind) {
    const view = views.get(name).view;
    const url = kind === "svg"
      ? URL.createObjectURL(new Blob([await view.toSVG()], { type: "image/svg+xml" }))
      : await view.toImageURL("png", 2);
    const link = make("a");
    link.href = url;
    link.download = `${name}.${kind}`;
    link.click();
  }

  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => save(button.dataset.plot, button.dataset.save).catch(console.error));
  }
  drawAll().catch(console.error);
}
