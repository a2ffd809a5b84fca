// A page that loads the script by its element has the global `Push`; it is no module.

/// <reference types="twisted-push" />

const connection: Push.Push = Push.connect({ pauseHidden: 600 });
connection.onState((state: Push.State, status) => console.log(Push.version, state, status.code));

// @ts-expect-error: there is no such function
Push.disconnect();
