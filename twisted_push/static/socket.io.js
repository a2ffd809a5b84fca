/*
 * twisted_push: the script that gives a page the global `io`.
 *
 *   var socket = io.connect('https://push.example.org', {timeout: 5000});
 *   socket.on('connect', function () { socket.emit('authenticate', {authToken: '...'}); });
 *   socket.on('message', function (message) { ... });
 *
 * A socket has on, once, off, emit, connect, disconnect, connected, disconnected and id. It speaks
 * Engine.IO 4 and Socket.IO revision 5 (namespace "/", text only), over a WebSocket if one gets
 * through and by long polling otherwise. Events of its own: connect, disconnect, connect_error,
 * connect_timeout, reconnect, reconnect_attempt, reconnecting, reconnect_error, reconnect_failed
 * and error. It comes back by itself, except after the server or the page has disconnected it.
 *
 * ES5 only: it also runs on the pages of old sites.
 */
(function (root) {
  'use strict';

  // All times are in milliseconds.
  var TIMEOUT = 20000; // for one attempt to connect, unless the page gives another
  var PATIENCE = 4000; // for a WebSocket to deliver its first packet, before polling is tried
  var POLLING_AFTER_FAILURE = 600000; // for which WebSocket is not tried again after it failed
  var DELAY = 500; // before the first attempt to reconnect, at most
  var DELAY_MAX = 20000; // before any attempt to reconnect
  var STABLE = 10000; // connected for so long: the delays start over
  var MAX_TIMER = 0x7fffffff; // a longer timer would fire at once
  var MAX_BUFFER = 1000; // emits that wait for a connection; beyond that the oldest is dropped
  var SEPARATOR = '\x1e'; // between the packets of a polling payload

  // Events that a socket tells the page about itself. They never go over the wire.
  var OWN_EVENTS = set('connect disconnect connecting connect_error connect_timeout error ' +
    'reconnect reconnect_attempt reconnecting reconnect_error reconnect_failed');

  // Servers whose WebSockets do not get through, and until when polling is used instead.
  var polled = Object.create(null);

  var stamps = 0;

  // --- Helpers -------------------------------------------------------------------------------

  function set(words) {
    var result = Object.create(null);
    words.split(' ').forEach(function (word) { result[word] = true; });
    return result;
  }

  function positive(value, otherwise) {
    value = Number(value);
    return value > 0 ? value : otherwise;
  }

  function duration(value, otherwise) {
    return Math.min(positive(value, otherwise), MAX_TIMER);
  }

  /** Parse JSON; undefined if it is none. */
  function parse(text) {
    try {
      return JSON.parse(text);
    } catch (error) {
      return undefined;
    }
  }

  /** How many bytes a text has in UTF-8. */
  function byteLength(text) {
    var bytes = text.length;
    for (var i = 0; i < text.length; i += 1) {
      var code = text.charCodeAt(i);
      if (code > 0x7f) {
        // Each half of a surrogate pair counts two of the four bytes.
        bytes += code > 0x7ff && (code < 0xd800 || code > 0xdfff) ? 2 : 1;
      }
    }
    return bytes;
  }

  function argumentsFrom(args, start) {
    return Array.prototype.slice.call(args, start);
  }

  // --- Transports ----------------------------------------------------------------------------
  //
  // A transport is made with a function that gives addresses, and its owner. It calls
  // owner.packet(text) for each packet, and owner.failed(reason) when it is of no use any more;
  // the owner then closes it. It has opened(handshake), send(packet), and close(packet): send a
  // last packet if there is one, then be silent for ever.

  function openWebSocket(address, owner) {
    var ws = new root.WebSocket(address().replace(/^http/, 'ws'));

    function send(packet) {
      ws.send(packet);
    }

    ws.onmessage = function (event) {
      // Nothing binary is ever sent to this client.
      if (typeof event.data === 'string') {
        owner.packet(event.data);
      }
    };
    ws.onclose = function () { owner.failed('transport close'); };
    ws.onerror = function () { owner.failed('transport error'); };

    return {
      opened: function () {},
      send: send,
      close: function (packet) {
        ws.onmessage = ws.onclose = ws.onerror = null;
        if (packet) {
          send(packet);
        }
        ws.close();
      }
    };
  }

  /** Make a request without cookies. Calls done(text), with null unless the answer is 200. */
  function request(method, url, body, done) {
    var xhr = new root.XMLHttpRequest();
    xhr.open(method, url, true);
    if (body !== null) {
      // This type needs no preflight request.
      xhr.setRequestHeader('Content-Type', 'text/plain;charset=UTF-8');
    }
    xhr.onreadystatechange = function () {
      if (xhr.readyState === 4) {
        done(xhr.status === 200 ? xhr.responseText : null);
      }
    };
    xhr.send(body);
    return xhr;
  }

  function openPolling(address, owner) {
    var sid = null;
    var limit = Infinity;
    var queue = [];
    var get = null;
    var post = null; // null while no POST is under way
    var closed = false;

    function url() {
      stamps += 1;
      return address() + '&t=' + Date.now().toString(36) + '.' + stamps +
        (sid === null ? '' : '&sid=' + encodeURIComponent(sid));
    }

    function failed() {
      if (!closed) {
        owner.failed('transport error');
      }
    }

    function received(payload) {
      if (payload === null) {
        failed();
        return;
      }
      payload.split(SEPARATOR).forEach(function (packet) {
        if (!closed) {
          owner.packet(packet);
        }
      });
      if (!closed) {
        poll();
      }
    }

    function poll() {
      get = request('GET', url(), null, received);
    }

    /** Take as many packets as the server accepts in one body, but at least one. */
    function batch() {
      var packets = [queue.shift()];
      var size = byteLength(packets[0]);
      while (queue.length) {
        size += 1 + byteLength(queue[0]);
        if (size > limit) {
          break;
        }
        packets.push(queue.shift());
      }
      return packets.join(SEPARATOR);
    }

    function flush() {
      if (!post && queue.length) {
        post = request('POST', url(), batch(), posted);
      }
    }

    function posted(answer) {
      post = null;
      if (answer === null) {
        failed();
      } else {
        flush();
      }
      if (closed && !post) {
        get.abort();
      }
    }

    poll();
    return {
      opened: function (handshake) {
        sid = handshake.sid;
        limit = positive(handshake.maxPayload, Infinity);
      },
      send: function (packet) {
        queue.push(packet);
        flush();
      },
      close: function (packet) {
        closed = true;
        if (packet) {
          // The poll is left to the server until it has read this.
          queue.push(packet, '1');
          flush();
          return;
        }
        get.abort();
        if (post) {
          post.abort();
        }
      }
    };
  }

  var TRANSPORTS = {websocket: openWebSocket, polling: openPolling};

  // --- Engine.IO: one connection, by the first transport that delivers an OPEN packet ----------
  //
  // It calls owner.opened(), owner.message(text), and owner.lost(reason) once at the end.

  function Engine(settings, patience, owner) {
    this.settings = settings;
    this.patience = patience;
    this.owner = owner;
    this.untried = transportsFor(settings);
    this.fellBack = false;
    this.isOpen = false;
    this.transport = null;
    this.next();
  }

  function transportsFor(settings) {
    var names = settings.transports;
    if (names.length > 1 && (!root.WebSocket || polled[settings.server] > Date.now())) {
      return ['polling'];
    }
    return names.slice();
  }

  Engine.prototype.next = function () {
    var engine = this;
    var settings = this.settings;
    var name = this.untried.shift();
    if (this.untried.length) {
      // A proxy may let a WebSocket be opened and then swallow all that goes through it.
      this.timer = setTimeout(function () { engine.failed('timeout'); }, this.patience);
    }
    try {
      this.transport = TRANSPORTS[name](function () {
        return settings.server + settings.path + '/?EIO=4&transport=' + name;
      }, this);
    } catch (error) {
      clearTimeout(this.timer);
      this.timer = setTimeout(function () { engine.failed('transport error'); }, 0);
    }
  };

  Engine.prototype.packet = function (packet) {
    var type = packet.charAt(0);
    if (!this.isOpen) {
      this.open(type === '0' && parse(packet.slice(1)));
      return;
    }
    this.expectPing();
    if (type === '1') {
      this.failed('transport close');
    } else if (type === '2') {
      this.transport.send('3');
    } else if (type === '4') {
      this.owner.message(packet.slice(1));
    } else if (type !== '3' && type !== '6') {
      this.failed('parse error');
    }
  };

  Engine.prototype.open = function (handshake) {
    if (!handshake || typeof handshake.sid !== 'string') {
      this.failed('parse error');
      return;
    }
    this.isOpen = true;
    this.silence = duration(
      positive(handshake.pingInterval, 25000) + positive(handshake.pingTimeout, 20000));
    this.expectPing();
    if (this.fellBack) {
      // Polling works where WebSocket did not: it was not the server that was away.
      this.avoidWebSocket();
    }
    this.transport.opened(handshake);
    this.owner.opened();
  };

  /** The server pings: a connection on which nothing comes any more is dead. */
  Engine.prototype.expectPing = function () {
    var engine = this;
    clearTimeout(this.timer);
    this.timer = setTimeout(function () { engine.failed('ping timeout'); }, this.silence);
  };

  Engine.prototype.avoidWebSocket = function () {
    polled[this.settings.server] = Date.now() + POLLING_AFTER_FAILURE;
  };

  Engine.prototype.failed = function (reason) {
    this.close();
    if (!this.isOpen && this.untried.length) {
      this.fellBack = true;
      this.next();
    } else {
      this.owner.lost(reason);
    }
  };

  Engine.prototype.close = function (packet) {
    clearTimeout(this.timer);
    if (this.transport) {
      this.transport.close(this.isOpen ? packet : undefined);
    }
  };

  // --- Socket.IO: what the page holds ----------------------------------------------------------

  function Socket(settings) {
    var socket = this;
    this.connected = false;
    this.disconnected = true;
    this.id = undefined;
    this._settings = settings;
    this._listeners = Object.create(null); // lists by event
    this._buffer = []; // emits that wait for a connection
    this._acks = Object.create(null); // functions that wait for an answer, by number
    this._nextAck = 0;
    this._wanted = false; // false after the page or the server has disconnected it
    this._engine = null;
    this._deadline = null; // the timer of an attempt
    this._retry = null; // the timer of the next attempt
    this._attempts = 0; // since the connection was lost
    this._delays = 0; // since the last connection that was stable
    this._since = 0;
    this._online = function () { retryNow(socket); };
    this._offline = function () { lost(socket, 'transport close'); };
  }

  Socket.prototype.on = function (event, listener) {
    (this._listeners[event] = this._listeners[event] || []).push(listener);
    return this;
  };

  Socket.prototype.once = function (event, listener) {
    function once() {
      this.off(event, once);
      listener.apply(this, arguments);
    }
    once.listener = listener;
    return this.on(event, once);
  };

  /** Remove one listener, or all of an event, or all. */
  Socket.prototype.off = function (event, listener) {
    if (!arguments.length) {
      this._listeners = Object.create(null);
    } else if (arguments.length === 1) {
      delete this._listeners[event];
    } else {
      this._listeners[event] = (this._listeners[event] || []).filter(function (other) {
        return other !== listener && other.listener !== listener;
      });
    }
    return this;
  };

  Socket.prototype.removeListener = Socket.prototype.removeAllListeners = Socket.prototype.off;

  /** Send an event with arguments; a function at the end gets what the server answers. */
  Socket.prototype.emit = function (event) {
    var args = argumentsFrom(arguments, 0);
    if (OWN_EVENTS[event]) {
      fire(this, event, args.slice(1));
      return this;
    }
    var ack = typeof args[args.length - 1] === 'function' ? args.pop() : null;
    var waiting = {json: JSON.stringify(args), ack: ack};
    if (this.connected) {
      transmit(this, waiting);
    } else if (this._buffer.push(waiting) > MAX_BUFFER) {
      this._buffer.shift();
    }
    return this;
  };

  Socket.prototype.connect = Socket.prototype.open = function () {
    if (this._retry) {
      retryNow(this);
    } else if (!this._engine) {
      this._wanted = true;
      this._attempts = 0;
      watchNetwork(this, 'addEventListener');
      attempt(this);
    }
    return this;
  };

  Socket.prototype.disconnect = Socket.prototype.close = function () {
    stop(this, 'io client disconnect', '41');
    return this;
  };

  /** Call a function of the page. What it throws is reported by itself and stops nothing. */
  function call(socket, listener, args) {
    try {
      listener.apply(socket, args);
    } catch (error) {
      setTimeout(function () { throw error; }, 0);
    }
  }

  function fire(socket, event, args) {
    (socket._listeners[event] || []).slice().forEach(function (listener) {
      call(socket, listener, args);
    });
  }

  function watchNetwork(socket, method) {
    if (root[method]) {
      root[method]('online', socket._online);
      root[method]('offline', socket._offline);
    }
  }

  function attempt(socket) {
    // Later attempts are given more time, so that a slow line gets through.
    var given = socket._settings.timeout;
    var timeout = Math.max(given, Math.min(TIMEOUT, given * (socket._attempts + 1)));
    socket._deadline = setTimeout(function () {
      if (socket._engine.isOpen && socket._engine.untried.length) {
        // Its first packet came through the WebSocket, but our answer did not.
        socket._engine.avoidWebSocket();
      }
      lost(socket, 'timeout', timeout);
    }, timeout);
    socket._engine = new Engine(socket._settings, Math.min(PATIENCE, timeout / 2), {
      opened: function () { socket._engine.transport.send('40'); },
      message: function (text) { received(socket, text); },
      lost: function (reason) { lost(socket, reason); }
    });
  }

  /** Handle the content of a MESSAGE packet: type, perhaps a number, JSON. */
  function received(socket, text) {
    if (/^([56]|.\/)/.test(text)) {
      return; // binary or of another namespace: nothing that this client has asked for
    }
    var parts = /^([0-4])(\d*)([[{"][\s\S]*)?$/.exec(text);
    var data = parts && parts[3] ? parse(parts[3]) : undefined;
    var type = parts ? parts[1] : '';
    if (type === '0' && !socket.connected) {
      connected(socket, data);
    } else if (type === '1') {
      stop(socket, 'io server disconnect');
    } else if (type === '4') {
      refused(socket, data);
    } else if (!Array.isArray(data) || (type === '2' && typeof data[0] !== 'string')) {
      lost(socket, 'parse error');
    } else if (type === '2' && socket.connected && !OWN_EVENTS[data[0]]) {
      fire(socket, data[0], data.slice(1).concat(parts[2] ? [answerTo(socket, parts[2])] : []));
    } else if (type === '3' && socket._acks[parts[2]]) {
      acknowledged(socket, parts[2], data);
    }
  }

  function connected(socket, data) {
    var engine = socket._engine;
    var attempts = socket._attempts;
    clearTimeout(socket._deadline);
    socket._attempts = 0;
    socket._since = Date.now();
    if (attempts) {
      fire(socket, 'reconnect', [attempts]);
    }
    if (socket._engine !== engine) {
      return; // a listener has disconnected
    }
    socket.connected = true;
    socket.disconnected = false;
    socket.id = data && data.sid;
    // First what the listeners emit, which may be an authentication, then what waited.
    fire(socket, 'connect', []);
    while (socket.connected && socket._buffer.length) {
      transmit(socket, socket._buffer.shift());
    }
  }

  function refused(socket, data) {
    var error = new Error(String((data && data.message) || data || 'refused'));
    error.data = data;
    stop(socket, 'io server disconnect');
    fire(socket, 'connect_error', [error]);
    fire(socket, 'error', [error]);
  }

  function transmit(socket, waiting) {
    var number = '';
    if (waiting.ack) {
      number = String(socket._nextAck);
      socket._acks[number] = waiting.ack;
      socket._nextAck += 1;
    }
    socket._engine.transport.send('42' + number + waiting.json);
  }

  /** Make the function by which a listener answers an event that asks for it. */
  function answerTo(socket, number) {
    var engine = socket._engine;
    return function () {
      if (engine && socket._engine === engine) {
        engine.transport.send('43' + number + JSON.stringify(argumentsFrom(arguments, 0)));
      }
      engine = null;
    };
  }

  function acknowledged(socket, number, args) {
    var listener = socket._acks[number];
    delete socket._acks[number];
    call(socket, listener, args);
  }

  /** Forget the connection. Tells whether there was one. */
  function drop(socket, packet) {
    var was = socket.connected;
    clearTimeout(socket._deadline);
    clearTimeout(socket._retry);
    socket._retry = null;
    if (socket._engine) {
      socket._engine.close(packet);
      socket._engine = null;
    }
    socket.connected = false;
    socket.disconnected = true;
    socket.id = undefined;
    // Nobody will answer what was sent over a connection that is gone.
    socket._acks = Object.create(null);
    return was;
  }

  /** Disconnect for good. */
  function stop(socket, reason, packet) {
    socket._wanted = false;
    watchNetwork(socket, 'removeEventListener');
    if (drop(socket, packet)) {
      fire(socket, 'disconnect', [reason]);
    }
  }

  /** Handle a connection that was lost, or an attempt that failed. */
  function lost(socket, reason, timeout) {
    if (!socket._engine) {
      return; // offline while there was no connection
    }
    var error = new Error(reason);
    var retrying = socket._attempts > 0;
    if (drop(socket)) {
      if (Date.now() - socket._since > STABLE) {
        socket._delays = 0;
      }
      if (reason === 'transport error' || reason === 'parse error') {
        fire(socket, 'error', [error]);
      }
      fire(socket, 'disconnect', [reason]);
    } else {
      fire(socket, 'connect_error', [error]);
      if (timeout) {
        fire(socket, 'connect_timeout', [timeout]);
      }
      if (retrying) {
        fire(socket, 'reconnect_error', [error]);
      }
    }
    retryLater(socket);
  }

  function isIdle(socket) {
    return socket._wanted && !socket._engine && !socket._retry;
  }

  function retryLater(socket) {
    var settings = socket._settings;
    if (!isIdle(socket)) {
      return; // a listener has connected or disconnected
    }
    if (socket._attempts >= settings.attempts) {
      stop(socket);
      if (settings.attempts) {
        fire(socket, 'reconnect_failed', []);
      }
      return;
    }
    socket._retry = setTimeout(function () { retryNow(socket); }, delay(settings, socket._delays));
    socket._attempts += 1;
    socket._delays += 1;
  }

  /** Any time up to a bound that doubles: a crowd that lost its server comes back spread out. */
  function delay(settings, number) {
    var bound = Math.min(settings.delayMax, settings.delay * Math.pow(2, number));
    if (settings.spread === null) {
      return Math.random() * bound;
    }
    // The page has said by how much a delay may differ.
    return Math.min(settings.delayMax, bound * (1 + settings.spread * (2 * Math.random() - 1)));
  }

  function retryNow(socket) {
    if (!socket._retry) {
      return;
    }
    clearTimeout(socket._retry);
    socket._retry = null;
    fire(socket, 'reconnect_attempt', [socket._attempts]);
    fire(socket, 'reconnecting', [socket._attempts]);
    if (isIdle(socket)) {
      attempt(socket);
    }
  }

  // --- The global ------------------------------------------------------------------------------

  /** Give scheme, host and port of a server; what follows them in the URL does not matter. */
  function serverOf(url) {
    var here = root.location || {};
    var scheme = /^https?:$/.test(here.protocol) ? here.protocol : 'http:';
    var parts = /^(?:(?:(http|ws)(s?):)?\/\/)?([^\/?#]+)/i.exec(url || '');
    if (!parts) {
      return scheme + '//' + here.host;
    }
    return (parts[1] ? 'http' + parts[2].toLowerCase() + ':' : scheme) + '//' + parts[3];
  }

  function pathOf(path) {
    return '/' + String(path || 'socket.io').replace(/^\/+|\/+$/g, '');
  }

  function transportsOf(names) {
    var all = ['websocket', 'polling']; // the best first
    var wanted = all.filter(function (name) {
      return Array.isArray(names) && names.indexOf(name) >= 0;
    });
    return wanted.length ? wanted : all;
  }

  function settingsOf(url, options) {
    var spread = parseFloat(options.randomizationFactor);
    return {
      server: serverOf(url),
      path: pathOf(options.path || options.resource),
      transports: transportsOf(options.transports),
      timeout: duration(options.timeout || options['connect timeout'], TIMEOUT),
      attempts: options.reconnection === false ? 0 :
        positive(options.reconnectionAttempts, Infinity),
      delay: duration(options.reconnectionDelay, DELAY),
      delayMax: duration(options.reconnectionDelayMax, DELAY_MAX),
      spread: spread >= 0 && spread <= 1 ? spread : null
    };
  }

  /** Connect to a server; without a URL, to the one that the page comes from. */
  function io(url, options) {
    if (url && typeof url === 'object') {
      options = url;
      url = undefined;
    }
    return new Socket(settingsOf(url, options || {})).connect();
  }

  io.connect = io;
  io.protocol = 5;
  root.io = io;
  if (typeof module === 'object' && module.exports) {
    module.exports = io;
  }
  if (typeof define === 'function' && define.amd) {
    // A name: a loader refuses nameless modules that come by a script element of the page.
    define('socket.io', [], function () { return io; });
  }
}(typeof self !== 'undefined' ? self : this));
