// The pages of the demo CMS. Each module looks for its own part of the page, and does nothing where
// that is not.

import { keepTimes, setUpForms } from "./page.js";
import { setUpLive } from "./live.js";
import { setUpArticle } from "./article.js";
import { setUpChat } from "./chat.js";
import { setUpToasts } from "./toasts.js";
import { setUpLog } from "./log.js";
import { setUpPeople } from "./people.js";

keepTimes();
setUpForms();
setUpLive();
setUpArticle();
setUpChat();
setUpToasts();
setUpLog();
setUpPeople();
