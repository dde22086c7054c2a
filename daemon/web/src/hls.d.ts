// hls.js is a module of its own in the build, beside the page's; see build.mjs.
export { default } from "hls.js";
