// The chart library: plotly.js, started once.

/** Start the chart library, once: it lies in the page compressed, so that opening the page need not wait. */
page.plotly = function () {
  if (!page.plotlyStarted) {
    page.plotlyStarted = (async () => {
      const source = document.getElementById("library");
      const letters = atob(source.textContent);
      const bytes = new Uint8Array(letters.length);
      for (let i = 0; i < letters.length; i += 1) bytes[i] = letters.charCodeAt(i);
      const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const code = await new Response(plain).blob();
      const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
      await new Promise((done, failed) => {
        const script = page.element("script", { src: address, onload: done, onerror: failed });
        document.head.append(script);
      });
      URL.revokeObjectURL(address);
      source.remove();
      return window.Plotly;
    })();
  }
  return page.plotlyStarted;
};

// Once the page stands and nobody waits for anything, so that the first study opens quickly.
window.addEventListener("load", () => {
  const start = () => { page.plotly().catch(() => { /* told where a chart is asked for */ }); };
  if ("requestIdleCallback" in window) requestIdleCallback(start, { timeout: 3000 });
  else setTimeout(start, 500);
});
