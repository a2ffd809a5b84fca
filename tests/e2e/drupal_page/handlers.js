// What modules of the site add to `Drupal.Nodejs`, here: they tell the test what they were given.
(function () {
  "use strict";

  var Nodejs = window.Drupal.Nodejs;

  function teller(kind, name) {
    return { callback: function (message) { window.record(kind, { name: name, message: message }); } };
  }

  ["nodejsNotify", "watchdog", "clientAuthenticated", "clientJoinedTokenChannel",
    "clientDisconnected"].forEach(function (name) {
    Nodejs.callbacks[name] = teller("callback", name);
  });
  Nodejs.callbacks.atFault = { callback: function () { throw new Error("at fault"); } };
  Nodejs.presenceCallbacks.buddies = teller("presence", "buddies");
  Nodejs.contentChannelNotificationCallbacks.readers = teller("content", "readers");
  Nodejs.connectionSetupHandlers.status = {
    connect: function () { window.record("connect", { id: Nodejs.socket.id }); },
    disconnect: function () { window.record("disconnect", {}); },
    connectionFailure: function () { window.record("connectionFailure", {}); }
  };
  if (Nodejs.connect()) {
    Nodejs.socket.on("disconnect", function (reason) { window.record("reason", { reason: reason }); });
  }
}());
