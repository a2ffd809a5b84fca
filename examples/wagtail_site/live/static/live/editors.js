// In Wagtail's editor: who else is editing this page, and what they did to it.

(async () => {
  const page = location.pathname.match(/^(.*\/)pages\/(\d+)\/edit\/$/);
  if (!page) return;
  const ask = async () => {
    const answer = await fetch(`${page[1]}live/editing/${page[2]}/`);
    if (!answer.ok) throw new Error(`no token: ${answer.status}`);
    return answer.json();
  };
  const { url, user, channel, connection, subscription } = await ask();

  const bar = document.createElement("div");
  bar.setAttribute("role", "status");
  bar.id = "live-editors";
  bar.style.cssText = "position:fixed;right:4rem;bottom:1rem;z-index:50;max-width:20rem;" +
    "padding:.5rem 1rem;border-radius:.5rem;background:#262626;color:#fff;font-size:.875rem";
  bar.hidden = true;
  document.body.append(bar);
  const who = document.createElement("p");
  const what = document.createElement("p");
  for (const line of [who, what]) line.style.margin = "0";
  bar.append(who, what);
  const others = new Map(); // by client: one person may have two tabs

  const show = () => {
    const names = [...new Set(others.values())];
    who.textContent = names.length ? `Also editing: ${names.join(", ")}` : "";
    bar.hidden = !names.length && !what.textContent;
  };
  const note = ({ client, user: id, conn_info: info }) => {
    if (id !== user) others.set(client, info?.name ?? "Somebody");
  };

  const unused = { connection, subscription };
  const token = async (kind) => {
    const { [kind]: found } = kind in unused ? unused : await ask();
    delete unused[kind];
    return found;
  };
  const push = Push.connect({ url, getToken: () => token("connection"), identity: user });
  push.on(channel, ({ user: by, name, words }) => {
    if (by === user) return;
    what.textContent = `${name} ${words}.`;
    show();
  });
  push.onPresence((event) => {
    if (event.channel !== channel) return;
    if (event.event === "join") note(event);
    if (event.event === "leave") others.delete(event.client);
    show();
  });
  push.onChannel(async (event) => {
    if (event.channel !== channel || event.event !== "subscribed") return;
    const present = await push.presence(channel);
    others.clear();
    Object.values(present).forEach(note);
    show();
  });
  push.subscribe(channel, { token: () => token("subscription") });
})();
