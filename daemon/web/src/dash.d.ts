// dash.js is a module of its own in the build, beside the page's; see build.mjs.
export { MediaPlayer as default } from "dashjs";
