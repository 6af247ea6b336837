/** Puts the page together. */

import { openClassify } from "./classify.js";
import { openClients, openKey } from "./clients.js";
import { openDetect } from "./detect.js";
import { openEmbed } from "./embed.js";
import { Models } from "./models.js";
import { openGenerate } from "./generate.js";
import { openStreams } from "./streams.js";
import { openTabs } from "./tabs.js";
import { openTranslate } from "./translate.js";
import { openVideo } from "./video.js";
import { openWorkflows } from "./workflows.js";

const models = new Models(document.getElementById("models"), document.getElementById("readiness"));
openClassify(models);
openTranslate(models);
openDetect(models);
openVideo(models);
openWorkflows(models);
openGenerate(models);
const embed = openEmbed(models);
openTabs(document.querySelector("[role=tablist]"), (id) => id === "embed" && embed.open());
openClients(document.getElementById("clients"));
openStreams(document.getElementById("streams"));
openKey(document.getElementById("key"), models);
models.refresh();
