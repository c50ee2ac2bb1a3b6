"use strict";
(() => {
  const SHOWN_MAX = 100000;
  const root = document.documentElement;
  root.classList.add("js");

  // Links are relative to the folder the surfaces are in. A page that was asked for with a slash too many
  // (`/docs/`), or the index with one too few (`/~NAME`), has to say which folder that is.
  const path = location.pathname;
  let folder = "./";
  if (document.body.dataset.page === "index") {
    if (!path.endsWith("/")) folder = "./" + path.split("/").pop() + "/";
  } else if (path.endsWith("/")) {
    folder = "../";
  }
  for (const link of document.querySelectorAll("a[href^='./']")) {
    link.setAttribute("href", folder + link.getAttribute("href").slice(2));
  }
  for (const form of document.querySelectorAll("form[action^='./']")) {
    form.setAttribute("action", folder + form.getAttribute("action").slice(2));
  }
  const base = new URL(folder, location.href).href;
  for (const code of document.querySelectorAll(".curl code")) {
    code.textContent = code.textContent.replace(/localhost:8000\//, () => base);
  }

  const quoted = (word) => /^[\w@%+=:,.~/-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'";

  const requestOf = (form) => {
    let target = form.dataset.path.slice(1);
    const query = new URLSearchParams();
    const headers = [];
    let body = null;
    for (const input of form.querySelectorAll("[data-in]")) {
      const name = input.dataset.name;
      const value = input.value;
      if (input.dataset.in === "path") target = target.replace("{" + name + "}", encodeURIComponent(value));
      else if (value === "") continue;
      else if (input.dataset.in === "body") {
        headers.push(["Content-Type", name]);
        body = value;
      }
      else if (input.dataset.in === "query") query.append(name, value);
      else headers.push([name, name === "Authorization" ? "Bearer " + value : value]);
    }
    const question = query.toString();
    return {
      method: form.dataset.method,
      url: base + target + (question ? "?" + question : ""),
      headers: headers,
      body: body,
    };
  };

  const showCurl = (form) => {
    const request = requestOf(form);
    const words = ["curl", "-i"];
    if (request.method !== (request.body === null ? "GET" : "POST")) words.push("-X", request.method);
    for (const [name, value] of request.headers) words.push("-H", quoted(name + ": " + value));
    // curl would read a file where the data begins with an @.
    if (request.body !== null) words.push(request.body.startsWith("@") ? "--data-raw" : "-d", quoted(request.body));
    words.push(quoted(request.url));
    form.closest("article").querySelector(".curl code").textContent = words.join(" ");
  };

  const line = (tag, className, text) => {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
  };

  const cut = (text) => {
    const more = text.length - SHOWN_MAX;
    return more > 0 ? text.slice(0, SHOWN_MAX) + "\n… " + more + " characters more" : text;
  };

  const pretty = (text, type) => {
    if (text.length > SHOWN_MAX || !type.includes("json")) return cut(text);
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  };

  async function* pieces(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  }

  const send = async (form) => {
    const request = requestOf(form);
    const answer = form.parentElement.querySelector(".answer");
    const stop = form.querySelector("button[data-stop]");
    const abort = new AbortController();
    const startedAt = performance.now();
    let answered = false;
    const elapsed = () => Math.round(performance.now() - startedAt) + " ms";
    stop.hidden = false;
    stop.onclick = () => abort.abort();
    answer.hidden = false;
    answer.replaceChildren(line("p", "line", "Waiting …"));
    try {
      const { method, headers, body } = request;
      const response = await fetch(request.url, { method, headers, body, cache: "no-store", signal: abort.signal });
      const status = line("p", "line", "");
      status.append(
        line("span", response.ok ? "status" : "status bad", response.status + " " + response.statusText),
        " in " + elapsed(),
      );
      const type = response.headers.get("content-type") || "";
      const fields = [...response.headers].map(([name, value]) => name + ": " + value).join("\n");
      const shown = line("pre", "", "");
      answer.replaceChildren(status, line("pre", "", fields), shown);
      answered = true;
      // Piece by piece: a followed journal and a dripping body have no end that one could wait for.
      let text = "";
      if (response.body) {
        for await (const piece of pieces(response.body)) {
          text += piece;
          shown.textContent = cut(text);
        }
      }
      shown.textContent = pretty(text, type) || "(no body)";
    } catch (error) {
      const why = abort.signal.aborted ? "Stopped" : (answered ? "Broken off: " : "No answer: ") + error.message;
      const told = line("p", "line status bad", why + ", after " + elapsed());
      if (answered) answer.append(told);
      else answer.replaceChildren(told);
    } finally {
      stop.hidden = true;
    }
  };

  for (const form of document.querySelectorAll("form[data-path]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
    form.addEventListener("input", (event) => {
      // The partition and the token are those of the person, not of one operation.
      const { name } = event.target.dataset;
      if (name === "X-Fault-Partition" || name === "Authorization") {
        for (const same of document.querySelectorAll("input[data-name='" + name + "']")) {
          same.value = event.target.value;
        }
        document.querySelectorAll("form[data-path]").forEach(showCurl);
      } else {
        showCurl(form);
      }
    });
    showCurl(form);
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      } catch {
        // No clipboard outside a secure context: select the line, so that the keyboard can copy it.
        getSelection().selectAllChildren(code);
      }
    });
  }
})();
