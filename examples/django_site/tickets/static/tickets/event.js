// The page of an event. The token and the positions are in attributes of <html>.

{
  const { channel, userChannel } = document.currentScript.dataset;
  const push = Push.connect();

  push.on(channel, (data) => {
    if ("seats_left" in data) document.getElementById("seats-left").textContent = data.seats_left;
    if ("wave" in data) tell(`${data.wave} waves to you.`);
  });
  push.on(userChannel, (data) => tell(data.text));

  // Something is lost for good, after a long sleep for example: then the page begins anew.
  push.onChannel(({ event }) => { if (event === "lost") location.reload(); });
  push.onState((state) => {
    const words = { recovering: "Connecting again …", denied: "You are logged out." };
    document.getElementById("connection").textContent = words[state] ?? "";
  });

  function tell(text) {
    const item = document.createElement("li");
    item.textContent = text;
    document.getElementById("news").prepend(item);
  }
}
