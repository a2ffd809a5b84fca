// The page of an event. The token and the positions are in the attributes of <html>.

const { channel, userChannel } = document.currentScript.dataset;
const push = Push.connect();

push.on(channel, (data) => {
  if ("seats_left" in data) document.getElementById("seats-left").textContent = data.seats_left;
  if ("wave" in data) tell(`${data.wave} waves to you.`);
});
push.on(userChannel, (data) => tell(data.text));

function tell(text) {
  const item = document.createElement("li");
  item.textContent = text;
  document.getElementById("news").prepend(item);
}
