// What the script of Drupal's nodejs module does on a page: the object `Drupal.Nodejs`.
//
// Written from the description of the module (its browser API, and how it connects), in the forms
// of two of its generations: 7 (options with 'connect timeout' alone) and 9 (timeout, transports and
// path). `pageSettings` is what the CMS puts into the page. `record` is the test's.
(function () {
  "use strict";

  var settings = window.pageSettings;
  var Nodejs = {
    callbacks: {},
    presenceCallbacks: {},
    contentChannelNotificationCallbacks: {},
    connectionSetupHandlers: {},
    socket: null
  };
  window.Drupal = { settings: { nodejs: settings }, Nodejs: Nodejs };

  // Modules may be at fault; the others are called all the same.
  function attempt(run) {
    try {
      run();
    } catch (error) {
      window.record("fault", { text: String(error) });
    }
  }

  function callAll(callbacks, message) {
    Object.keys(callbacks).forEach(function (name) {
      attempt(function () { callbacks[name].callback(message); });
    });
  }

  function callNamed(names, message) {
    [].concat(names).forEach(function (name) {
      var found = Nodejs.callbacks[name];
      if (found && typeof found.callback === "function") {
        attempt(function () { found.callback(message); });
      }
    });
  }

  Nodejs.runCallbacks = function (message) {
    if (message.clientSocketId && message.clientSocketId === Nodejs.socket.id) {
      return; // This tab has sent it.
    }
    if (message.callback) {
      callNamed(message.callback, message);
    } else if (message.presenceNotification) {
      callAll(Nodejs.presenceCallbacks, message);
    } else if (message.contentChannelNotification) {
      callAll(Nodejs.contentChannelNotificationCallbacks, message);
    } else {
      callAll(Nodejs.callbacks, message);
    }
  };

  Nodejs.runSetupHandlers = function (type) {
    Object.keys(Nodejs.connectionSetupHandlers).forEach(function (name) {
      var handler = Nodejs.connectionSetupHandlers[name][type];
      if (typeof handler === "function") {
        attempt(handler);
      }
    });
  };

  Nodejs.sendAuthMessage = function () {
    Nodejs.socket.emit("authenticate", {
      authToken: settings.authToken,
      contentTokens: settings.contentTokens
    });
  };

  Nodejs.joinTokenChannel = function (channel, contentToken) {
    Nodejs.socket.emit("join-token-channel", { channel: channel, contentToken: contentToken });
  };

  Nodejs.checkConnection = function () {
    if (!Nodejs.socket.connected) {
      Nodejs.runSetupHandlers("connectionFailure");
    }
  };

  function optionsOf(generation) {
    if (generation === 7) {
      return { "connect timeout": settings.connectTimeout };
    }
    return {
      timeout: settings.connectTimeout,
      transports: ["polling", "websocket"],
      path: settings.resource
    };
  }

  Nodejs.connect = function () {
    var client = settings.client;
    if (typeof window.io === "undefined") {
      return false;
    }
    Nodejs.socket = window.io.connect(
      client.scheme + "://" + client.host + ":" + client.port, optionsOf(settings.generation)
    );
    Nodejs.socket.on("connect", function () {
      Nodejs.sendAuthMessage();
      Nodejs.runSetupHandlers("connect");
    });
    Nodejs.socket.on("message", Nodejs.runCallbacks);
    Nodejs.socket.on("disconnect", function () { Nodejs.runSetupHandlers("disconnect"); });
    setTimeout(Nodejs.checkConnection, settings.connectTimeout + 250);
    return true;
  };
}());
