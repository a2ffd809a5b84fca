// A page that is published anew shows so where it is open: what is in [data-live] is replaced.

{
  const SPREAD = 2000; // A thousand readers do not ask for the page in the same moment.
  const { channel } = document.currentScript.dataset;
  const shown = () => document.querySelector("[data-live]");
  let coming;

  const refresh = async () => {
    coming = undefined;
    const answer = await fetch(location.href, { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const content = fresh.querySelector("[data-live]");
    if (!answer.ok || !content) {
      shown().textContent = "This page is not there any more.";
      return;
    }
    // From our own site, like the page itself: nothing of it came by the push server.
    shown().replaceWith(document.adoptNode(content));
    document.title = fresh.title;
  };

  const push = Push.connect();
  push.on(channel, ({ changed }) => {
    if (changed > Number(shown().dataset.live)) coming ??= setTimeout(refresh, Math.random() * SPREAD);
  });
  // From the very beginning: the latest message comes at once, and tells whether this page, which
  // may come from a cache, is still the one.
  push.subscribe(channel, { since: { offset: 0, epoch: "" } });
}
