// A complete receiver in Go: PORT=8080 WEBHOOK_SECRETS="whsec_…" go run server.go verify.go
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const bodyMax = 1 << 20 // what natshook sends at most, unless max_payload_bytes says otherwise

// Keys are "whsec_…" or "whpk_…"; two while a secret is rotated.
var keys = strings.Fields(os.Getenv("WEBHOOK_SECRETS"))

// In a real one a table with the id as its key (see server.py): a restart must not forget what was accepted.
var (
	mutex sync.Mutex
	inbox = map[string]bool{}
)

type webhook struct {
	id   string
	body []byte
}

var work = make(chan webhook, 1000)

func receive(writer http.ResponseWriter, request *http.Request) {
	// Raw: what a JSON encoder writes again has other bytes.
	body, err := io.ReadAll(http.MaxBytesReader(writer, request.Body, bodyMax))
	if err != nil {
		http.Error(writer, "too large, or cut off", http.StatusRequestEntityTooLarge)
		return
	}
	id, err := Verify(keys, request.Header, body, time.Now())
	if err != nil {
		http.Error(writer, err.Error(), http.StatusUnauthorized)
		return
	}
	if !accept(webhook{id, body}) {
		writer.Header().Set("Retry-After", "30")
		http.Error(writer, "not now", http.StatusServiceUnavailable)
		return
	}
	// Also for an id that was there: the first answer may have been lost.
	writer.WriteHeader(http.StatusNoContent)
}

// Whether it is had now, or was before: false when too much is waiting.
func accept(webhook webhook) bool {
	mutex.Lock()
	defer mutex.Unlock()
	if inbox[webhook.id] {
		return true
	}
	select {
	case work <- webhook: // after the answer
		inbox[webhook.id] = true
		return true
	default:
		return false
	}
}

func main() {
	go func() {
		for webhook := range work {
			fmt.Println("working on", webhook.id, string(webhook.body))
		}
	}()
	http.HandleFunc("/", receive)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
