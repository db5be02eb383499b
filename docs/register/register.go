// Registers a webhook with natshook, by one NATS request. Run it as often as you like: it changes what differs.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

type answer struct {
	Name     string `json:"name"`
	Revision uint64 `json:"revision"`
	Code     int    `json:"code"`
	Error    string `json:"error"`
	Errors   []struct {
		Key   string `json:"key"`
		Error string `json:"error"`
	} `json:"errors"`
}

func main() {
	url := os.Getenv("NATS_URL")
	if url == "" {
		url = nats.DefaultURL
	}
	connection, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	question, err := json.Marshal(map[string]any{"target": map[string]any{
		"name":     "orders",
		"subjects": []string{"orders.>"},
		"url":      os.Getenv("WEBHOOK_URL"),
		"signing":  map[string]any{"secrets": []string{os.Getenv("WEBHOOK_SECRET")}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	message, err := connection.Request("natshook.targets.put", question, 5*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	var said answer
	if err := json.Unmarshal(message.Data, &said); err != nil {
		log.Fatal(err)
	}
	if message.Header.Get("Nats-Service-Error-Code") != "" {
		for _, wrong := range said.Errors {
			fmt.Fprintf(os.Stderr, "%s: %s\n", wrong.Key, wrong.Error)
		}
		log.Fatalf("%d: %s", said.Code, said.Error)
	}
	fmt.Printf("%s: registered, revision %d\n", said.Name, said.Revision)
}
